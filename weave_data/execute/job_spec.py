"""What a submitted build sends to the cluster: a command, a folder, an environment; and no secret.

A job's specification (its command, `runtime_env` and metadata) can be read by whoever may list jobs, and
its folder by whoever may run one. So credentials are refused here by name and by value; nodes have them from
their instance profile, their service account, or the environment in which `ray start` ran on them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weave_data.config import read_yaml
from weave_data.errors import ConfigError
from weave_data.foreign_text import redact

__all__ = ["STOP_SECONDS", "JobSpec", "is_secret_name", "make_job_spec", "read_runtime_env"]

STOP_SECONDS = 7
"""How long Ray waits for a stopped build to end by itself; its default of 3 may cut the farewell."""

# fmt: off
PRIVATE_FILES = (
    ".git", ".venv",
    ".env", ".env.*", ".envrc", "secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml",
    ".aws", ".azure", ".boto", ".config", ".s3cfg", "credentials", "credentials.json", "client_secret*.json",
    "service[-_]account*.json",
    ".docker", ".kube", "kubeconfig", ".ray", "auth_token",
    ".cache", ".hf_token", "hf_token", "*hf_token*.txt", "kaggle.json",
    ".git-credentials", ".netrc", "_netrc", ".npmrc", ".pgpass", ".pypirc", ".vault-token",
    ".gnupg", ".ssh", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_rsa*",
    "*.jks", "*.kdbx", "*.key", "*.p12", "*.pem", "*.pfx", "*.ppk",
)
# fmt: on
"""Never packed, in any folder; patterns as in `.gitignore`, and the last of `runtime_env.yaml`'s excludes."""

_SECRET_NAME = re.compile(
    r"(^|_)(secret|password|passwd|passphrase|token|pat|credentials?|(api|access|private|openai|wandb)_?key)"
    r"(_|$)",
    re.I,
)
_HARMLESS_NAME = re.compile(r"_(file|path|dir|env|uri)$", re.I)
_SHORTEST_SECRET = 8
_REMEDY = (
    "a job's specification can be read by whoever may list jobs: give the nodes their credentials (instance "
    "profile, service account, or the environment of `ray start`) and leave it out"
)


@dataclass(frozen=True)
class JobSpec:
    """One job.

    Attributes:
        entrypoint: The shell command its driver runs, in the packed folder.
        runtime_env: Ray's runtime environment; `working_dir` is a local folder yet.
    """

    entrypoint: str
    runtime_env: dict[str, Any] = field(default_factory=dict)


def read_runtime_env(path: Path) -> dict[str, Any]:
    """Read a runtime environment, as `cluster_configs/runtime_env.yaml`.

    Raises:
        ConfigError: It can't be read or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); name a YAML file with --runtime-env") from error
    return read_yaml(text, origin=str(path))


def make_job_spec(
    command: Sequence[str],
    *,
    config: Path,
    scratch: Path,
    working_dir: Path | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> JobSpec:
    """Put a job together.

    Args:
        command: Words after `weave-data build CONFIG`.
        config: The configuration file.
        scratch: An empty folder; the configuration alone is packed from here without a `working_dir`.
        working_dir: Folder to pack, which holds the configuration.
        runtime_env: What the job's processes need besides.
        environment: This process' variables: the values of its secrets must not be in what is sent.

    Raises:
        ConfigError: The configuration lies outside the folder, or something to be sent is secret.
    """
    sent = dict(runtime_env or {})
    if "working_dir" in sent:
        raise ConfigError(
            f"runtime_env.working_dir: {sent['working_dir']!r} is set; name the folder with --working-dir"
        )
    if working_dir is None:
        shutil.copyfile(config, scratch / config.name)
        name, folder = config.name, scratch
    else:
        name, folder = _inside(config, working_dir), working_dir
    entrypoint = shlex.join(["weave-data", "build", name, *command])
    problems = list(_secrets(sent, environment, "runtime_env"))
    problems += _secrets(
        {"command": entrypoint, "config": config.read_text(encoding="utf-8")}, environment, "job"
    )
    if problems:
        raise ConfigError(problems)
    sent["working_dir"] = str(folder.resolve())
    variables = sent.get("env_vars") or {}
    if not isinstance(variables, Mapping) or not all(isinstance(value, str) for value in variables.values()):
        raise ConfigError(
            f"runtime_env.env_vars: {variables!r}: names and texts are wanted; write numbers in quotes"
        )
    sent["excludes"] = [*(sent.get("excludes") or ()), *PRIVATE_FILES]
    sent["env_vars"] = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **variables}
    return JobSpec(entrypoint, sent)


def _inside(config: Path, working_dir: Path) -> str:
    try:
        return str(config.resolve().relative_to(working_dir.resolve()))
    except ValueError:
        raise ConfigError(
            f"{config} lies outside the working directory {working_dir}, which is all that the job gets; "
            "name a folder that holds it with --working-dir, or leave that away to send the file alone"
        ) from None


def _secrets(value: Any, environment: Mapping[str, str], path: str) -> Iterator[str]:
    """Problems of everything below `value` that is secret; values themselves are never repeated."""
    match value:
        case Mapping():
            for key, item in value.items():
                yield from _secrets(item, environment, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _secrets(item, environment, f"{path}[{index}]")
        case str():
            name = path.rpartition(".")[2]
            if is_secret_name(name) and ".env_vars." in path and value:
                yield f"{path} is a secret by its name; {_REMEDY}"
            elif held := [name for name in _held_secrets(environment) if environment[name] in value]:
                yield from (f"{path} holds the value of {name}; {_REMEDY}" for name in held)
            elif redact(plain := value.replace("://git@", "://")) != plain:  # ssh's user is no secret
                yield f"{path} holds an address with a password, token or signature; {_REMEDY}"


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, and not where one lies."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def _held_secrets(environment: Mapping[str, str]) -> list[str]:
    return [
        name for name, value in environment.items() if is_secret_name(name) and len(value) >= _SHORTEST_SECRET
    ]
