"""Questions to every node: this one, those of a Ray cluster, or those of a DeepSpeed hostfile."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_data.doctor.finding import Finding, Status
from weave_data.doctor.node import look_at_node
from weave_data.doctor.questions import Questions
from weave_data.errors import SourceError
from weave_data.execute import ask_every_node

__all__ = ["NodeReply", "ask_here", "ask_over_ray", "ask_over_ssh"]

TIMEOUT_SECONDS = 120.0
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
HERE = "here"
_PASSED_ON = ("PYTHON", "NCCL", "GLOO", "HF_", "AWS_", "TMPDIR")


@dataclass(frozen=True)
class NodeReply:
    """Answers of all nodes that gave one, and findings about the others.

    Attributes:
        nodes: Facts by node name; see `node.look_at_node`.
        findings: `nodes`: which there are, and who did not answer.
        before: Seconds since 1970 when the nodes were asked.
        after: When the last answer was there.
        gpus: As Ray counts them; None where Ray was not asked.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    findings: tuple[Finding, ...]
    before: float
    after: float
    gpus: float | None = None


def ask_here(questions: Questions) -> NodeReply:
    """This process answers."""
    before = time.time()
    facts = look_at_node(questions.model_dump_json())
    return NodeReply({HERE: facts}, (), before, time.time())


def ask_over_ray(questions: Questions, address: str | None) -> NodeReply:
    """Every node of a Ray cluster answers.

    Args:
        questions: The same for all.
        address: Of the cluster; None: of the job that this process is.
    """
    before = time.time()
    try:
        answers = ask_every_node(
            address, look_at_node, questions.model_dump_json(), timeout_seconds=TIMEOUT_SECONDS
        )
    except SourceError as error:
        found, _, remedy = str(error).rpartition("; ")
        return NodeReply({}, (Finding("nodes", Status.FAIL, found, remedy),), before, time.time())
    gpus = sum(answer.resources.get("GPU", 0.0) for answer in answers)
    cores = sum(answer.resources.get("CPU", 0.0) for answer in answers)
    found = f"{len(answers)} Ray nodes with {cores:g} CPUs and {gpus:g} GPUs"
    findings = [Finding("nodes", Status.OK, found), _token_finding()]
    remedy = "look at its logs; the package must be importable there (image, or --working-dir)"
    findings += [
        Finding("nodes", Status.FAIL, answer.problem, remedy, answer.node)
        for answer in answers
        if answer.problem
    ]
    names = _unique([answer.node for answer in answers])
    facts = {name: answer.value for name, answer in zip(names, answers, strict=True) if not answer.problem}
    return NodeReply(facts, tuple(findings), before, time.time(), gpus)


def _token_finding() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode == "token":
        return Finding("ray token", Status.OK, "RAY_AUTH_MODE=token")
    found = (
        f"RAY_AUTH_MODE is {mode or 'not set'}: whoever reaches the head's ports may run code in the cluster"
    )
    remedy = "start every node with RAY_AUTH_MODE=token and one ~/.ray/auth_token (cluster_configs do)"
    return Finding("ray token", Status.WARN, found, remedy)


def ask_over_ssh(questions: Questions, hosts: Sequence[str], *, ssh: str = "ssh") -> NodeReply:
    """Every host answers over ssh, in this folder, by this interpreter, as the launchers of ranks start it.

    Variables that DeepSpeed's launcher exports are passed on, and those that reading needs.

    Args:
        questions: The same for all.
        hosts: Their names for ssh.
        ssh: Program and its own options, as a shell splits them.
    """
    before = time.time()
    with ThreadPoolExecutor(min(32, max(1, len(hosts)))) as pool:
        answers = list(pool.map(lambda host: _over_ssh(ssh, host, questions.model_dump_json()), hosts))
    findings = [Finding("nodes", Status.OK, f"{len(hosts)} hosts: {', '.join(hosts)}")]
    facts = {}
    for host, (value, problem) in zip(hosts, answers, strict=True):
        if value is None:
            remedy = f"`ssh {host}` must work without a password, with this checkout and environment there"
            findings.append(Finding("nodes", Status.FAIL, problem, remedy, host))
        else:
            facts[host] = value
    return NodeReply(facts, tuple(findings), before, time.time())


def _over_ssh(ssh: str, host: str, questions: str) -> tuple[dict[str, Any] | None, str]:
    # secrets go over standard input: a command line is seen by every user of the host
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    script = (
        "import json, os, sys; given = json.loads(sys.stdin.readline()); os.environ.update(given); "
        "sys.path[:0] = [one for one in given.get('PYTHONPATH', '').split(':') if one]; "
        "from weave_data.doctor.node import main; main()"
    )
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.quote(sys.executable)} -c {shlex.quote(script)}"
    try:
        done = subprocess.run(
            [*shlex.split(ssh), *_SSH_OPTIONS, host, command],
            input=f"{json.dumps(passed)}\n{questions}",
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return None, f"{shlex.split(ssh)[0]} is not installed here"
    except subprocess.TimeoutExpired:
        return None, f"did not answer within {TIMEOUT_SECONDS:.0f} s"
    try:
        value = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines()
        return None, f"ssh ended with {done.returncode}: {lines[-1] if lines else 'no message'}"
    return value, ""


def _unique(names: Sequence[str]) -> list[str]:
    """Two nodes of one address (tests, one machine) are told apart by a number."""
    return [
        name if names.count(name) == 1 else f"{name} #{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]
