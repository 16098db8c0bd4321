"""What a submitted build sends along, and that no secret is in it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weave_data.errors import ConfigError
from weave_data.execute import JobSpec, make_job_spec, read_runtime_env
from weave_data.execute.job_spec import PRIVATE_FILES, is_secret_name

RUNTIME_ENV = Path(__file__).resolve().parents[2] / "cluster_configs" / "runtime_env.yaml"
NOTHING: dict[str, str] = {}
HARMLESS = {
    "conf/weave.yaml",
    "credentials.py",
    "tokens.csv",
    "id_map.csv",
    "environment.yaml",
    "a/clips.csv",
}
SECRET = {
    ".env", ".env.local", ".envrc", "secrets.toml",
    ".aws/credentials", ".aws/config", "credentials", ".config/gcloud/x.db", "service-account-7.json",
    ".docker/config.json", ".kube/config", ".ray/auth_token",
    ".hf_token", "hf_token", ".cache/huggingface/token",
    ".git-credentials", ".git/config", ".netrc", ".npmrc", ".pypirc",
    ".ssh/config", "id_rsa", "id_ed25519", "id_ecdsa", "id_rsa.old", "server.key", "server.pem",
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "conf" / "weave.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("output: s3://bucket/woven\n")
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def spec(config: Path, scratch: Path, *command: str, **options: Any) -> JobSpec:
    return make_job_spec(command, config=config, scratch=scratch, **{"environment": NOTHING, **options})


def test_the_configuration_alone_is_sent_unless_a_folder_is_named(config: Path, scratch: Path) -> None:
    alone = spec(config, scratch, "source.limit=3", "--replace")
    assert alone.entrypoint == "weave-data build weave.yaml source.limit=3 --replace"
    assert [path.name for path in Path(alone.runtime_env["working_dir"]).iterdir()] == ["weave.yaml"]
    folder = config.parents[1]
    named = spec(config, scratch, working_dir=folder)
    assert named.entrypoint == "weave-data build conf/weave.yaml"
    assert named.runtime_env["working_dir"] == str(folder)


def test_words_reach_the_build_as_they_were_given(config: Path, scratch: Path) -> None:
    import shlex

    words = ["recipes.l4.name=a b", "rejects.quarantine=['it''s', \"$(x)\"]"]
    assert shlex.split(spec(config, scratch, *words).entrypoint)[3:] == words


def test_a_runtime_environment_is_kept_and_private_files_stay_at_home(config: Path, scratch: Path) -> None:
    sent = spec(config, scratch, runtime_env=read_runtime_env(RUNTIME_ENV)).runtime_env
    given = read_runtime_env(RUNTIME_ENV)
    assert given["env_vars"].items() <= sent["env_vars"].items()
    assert {*given["excludes"], *PRIVATE_FILES} <= set(sent["excludes"])
    assert "working_dir" not in given


def packed(runtime_env: dict[str, Any]) -> dict[str, bytes]:
    """Files that Ray's own client sends, by path; its requests are answered here."""
    from ray.job_submission import JobSubmissionClient

    sent: dict[str, bytes] = {}

    def answer(method: str, endpoint: str, *, data: bytes | None = None, **_: Any) -> SimpleNamespace:
        if method == "PUT":
            assert data is not None
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                sent.update((name, archive.read(name)) for name in archive.namelist() if name[-1] != "/")
        submitted = {"job_id": "j", "submission_id": "j"}
        return SimpleNamespace(status_code=404 if method == "GET" else 200, json=lambda: submitted)

    client = JobSubmissionClient.__new__(JobSubmissionClient)
    client._default_metadata, client._do_request = {}, answer
    client.submit_job(entrypoint="true", runtime_env=runtime_env)
    return sent


@pytest.mark.parametrize("way", ["weave-data submit", "ray job submit"])
def test_no_planted_secret_is_in_what_ray_packs(config: Path, scratch: Path, way: str) -> None:
    folder = config.parents[1]
    for name in [*HARMLESS, *SECRET, *(f"a/b/{name}" for name in SECRET)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("planted" if name not in HARMLESS else "output: s3://bucket/woven\n")
    if way == "weave-data submit":
        sent = packed(spec(config, scratch, working_dir=folder).runtime_env)
    else:
        sent = packed({**read_runtime_env(RUNTIME_ENV), "working_dir": str(folder)})
    assert [name for name, data in sent.items() if b"planted" in data] == []
    assert set(sent) == HARMLESS


def test_both_ways_to_submit_keep_the_same_files_at_home() -> None:
    given = read_runtime_env(RUNTIME_ENV)["excludes"]
    assert given[-len(PRIVATE_FILES) :] == list(PRIVATE_FILES)


def test_a_configuration_outside_the_folder_is_refused(config: Path, scratch: Path) -> None:
    with pytest.raises(ConfigError, match="outside the working directory"):
        spec(config, scratch, working_dir=scratch)
    with pytest.raises(ConfigError, match="--working-dir"):
        spec(config, scratch, runtime_env={"working_dir": "s3://bucket/code.zip"})


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN", "RAY_AUTH_TOKEN",
     "OPENAI_API_KEY", "WANDB_API_KEY", "DB_PASSWORD", "GH_PAT", "OPENAI_KEY"],
)  # fmt: skip
def test_a_variable_with_the_name_of_a_secret_is_refused_without_its_value(
    config: Path, scratch: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match=rf"env_vars\.{name} is a secret") as caught:
        spec(config, scratch, runtime_env={"env_vars": {"OTHER": "fine", name: "hunter2-hunter2"}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE",
     "AWS_ENDPOINT_URL", "RAY_AUTH_TOKEN_PATH", "MAX_TOKENS", "PATH", "SORT_KEY"],
)  # fmt: skip
def test_what_says_where_a_secret_lies_may_be_sent(config: Path, scratch: Path, name: str) -> None:
    assert not is_secret_name(name)
    assert spec(config, scratch, runtime_env={"env_vars": {name: "x"}}).runtime_env["env_vars"][name] == "x"


@pytest.mark.parametrize(
    "address",
    ["git+https://ghp_planted@github.com/a/b", "https://bucket.s3.amazonaws.com/a?X-Amz-Signature=planted"],
)
def test_tokens_and_signatures_in_addresses_are_refused(config: Path, scratch: Path, address: str) -> None:
    attempts: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {"runtime_env": {"pip": [address]}}),
        ((f"source.videos={address}",), {}),
    ]
    for command, options in attempts:
        with pytest.raises(ConfigError, match="holds an address with a password, token or sig") as caught:
            spec(config, scratch, *command, **options)
        assert "planted" not in str(caught.value)
    spec(config, scratch, runtime_env={"pip": ["git+ssh://git@github.com/a/b", "https://host/a?x=1"]})


def test_variables_that_are_no_texts_are_refused_and_empty_sections_are_none(
    config: Path, scratch: Path
) -> None:
    with pytest.raises(ConfigError, match=r"env_vars: .*write numbers in quotes"):
        spec(config, scratch, runtime_env={"env_vars": {"OMP_NUM_THREADS": 1}})
    sent = spec(config, scratch, runtime_env={"env_vars": None, "excludes": None}).runtime_env
    assert list(sent["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]


def test_values_of_our_own_secrets_are_refused_wherever_they_hide(config: Path, scratch: Path) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "planted-planted", "AWS_REGION": "us-east-1", "EMPTY_TOKEN": ""}
    attempts: list[dict[str, Any]] = [
        {"runtime_env": {"env_vars": {"INNOCENT": "a planted-planted b"}}},
        {"runtime_env": {"pip": ["x", "--index-url=https://planted-planted@host/"]}},
    ]
    for options in attempts:
        with pytest.raises(ConfigError, match="holds the value of AWS_SECRET_ACCESS_KEY") as caught:
            spec(config, scratch, environment=secrets, **options)
        assert "planted" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"job\.command holds the value"):
        spec(config, scratch, "output=s3://planted-planted/x", environment=secrets)
    with pytest.raises(ConfigError, match=r"job\.command holds an address with a password"):
        spec(config, scratch, "output=http://me:word@host/x")
    config.write_text("output: s3://bucket/x # planted-planted\n")
    with pytest.raises(ConfigError, match=r"job\.config holds the value"):
        spec(config, scratch, environment=secrets)


def test_a_runtime_environment_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: can't be read"):
        read_runtime_env(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match=r"list\.yaml: expected a mapping"):
        read_runtime_env(tmp_path / "list.yaml")
