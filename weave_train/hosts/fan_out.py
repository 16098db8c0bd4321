"""Starts a run on all its hosts, ends it everywhere, says with which code."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from weave_data.errors import ConfigError, DeviceError
from weave_train.hosts.connection import Connection, Reach, agent_command
from weave_train.hosts.hostfile import Host
from weave_train.hosts.starts import HostLauncher, Rendezvous, start_command

__all__ = ["Job", "planned", "run_on_hosts"]

_HELLO_SECONDS = 120.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.1
_PASSED_ON = ("AWS_", "DS_", "GLOO_", "HF_", "NCCL_", "OMP_", "PYTHON", "TORCH_", "UCX_", "WANDB_", "WEAVE_")
_FIXED = frozenset({2, 3})  # a wrong configuration and missing credentials stay so


@dataclass(frozen=True)
class Job:
    """What runs where.

    Attributes:
        launcher: On each host.
        hosts: In the order of their ranks.
        settings: Of `weave-train pretrain`, YAML.
        reach: How the hosts are reached.
        meeting: Where the hosts meet; None: on the first host, at a port that is free there.
        master_address: Of the first host, where ssh goes by another; None: the one ssh went to.
        master_port: There; None: a free one.
        exports: Names of variables to pass on beside AWS_*, HF_*, NCCL_*, WANDB_* and the like.
        max_restarts: Times the whole run is started anew after a failure.
    """

    launcher: HostLauncher
    hosts: tuple[Host, ...]
    settings: str
    reach: Reach = field(default_factory=Reach)
    meeting: Rendezvous | None = None
    master_address: str | None = None
    master_port: int | None = None
    exports: Sequence[str] = field(default=())
    max_restarts: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Variables that each host gets, on a pipe."""
        return {
            name: value
            for name, value in os.environ.items()
            # PYTHONPATH is there before weave_train is found
            if name != "PYTHONPATH" and (name.startswith(_PASSED_ON) or name in self.exports)
        }


def planned(job: Job) -> list[str]:
    """Lines that say what would be started where; names of variables, no values."""
    lines = []
    for node, host in enumerate(job.hosts):
        first = job.master_address or f"<address of {job.hosts[0]}>"
        meeting = job.meeting or Rendezvous(first, job.master_port or 0, len(job.hosts))
        shown = start_command(job.launcher, job.reach.python, job.hosts, node, meeting)
        text = " ".join(shown).replace("_port=0", "_port=<free port>").replace("-port=0", "-port=<free port>")
        lines += [f"{host}: {' '.join(agent_command(host, job.reach))}", f"  starts: {text}"]
    return [*lines, f"variables: {', '.join(sorted(job.environment)) or 'none'}"]


def run_on_hosts(job: Job) -> int:
    """Run to the end, started anew `max_restarts` times; Ctrl-C and SIGTERM as in `_run_once`.

    Returns:
        0, or the exit code of what failed first; never that of a host that ended because another did.

    Raises:
        ConfigError: Hosts differ in what is installed, or don't know the first one's address.
        DeviceError: A host can't be reached.
    """
    for restart in range(job.max_restarts + 1):
        code = _run_once(job)
        if code == 0 or code in _FIXED or restart == job.max_restarts:
            return code
        sys.stderr.write(
            f"weave-train: the run ended with exit code {code}; restart {restart + 1} of {job.max_restarts}\n"
        )
    raise AssertionError("unreachable")


def _run_once(job: Job) -> int:
    """Start on all hosts; when one fails or Ctrl-C comes, all are ended. SIGTERM: ranks save and end."""
    connections: list[Connection] = []
    try:
        # one by one: those that are there are hung up when the next can't be made
        connections.extend(Connection(host, job.reach) for host in job.hosts)
        _greet(connections)
        for connection, order in zip(connections, _orders(job, connections), strict=True):
            connection.tell(order)
        with _passing_on_stop(connections):
            while True:
                codes = [connection.poll() for connection in connections]
                failed = [code for code in codes if code]
                if failed:
                    return failed[0] if failed[0] > 0 else 1
                if all(code == 0 for code in codes):
                    return 0
                time.sleep(_POLL_SECONDS)
    finally:
        with ExitStack() as closing:
            for connection in connections:
                closing.callback(connection.wait, _END_SECONDS)
            for connection in connections:
                connection.hang_up()


def _greet(connections: Sequence[Connection]) -> None:
    deadline = time.monotonic() + _HELLO_SECONDS
    for connection in connections:
        connection.has_answered.wait(max(0.0, deadline - time.monotonic()))
    silent = [str(connection.host) for connection in connections if connection.hello is None]
    if silent:
        raise DeviceError(
            f"hosts: {', '.join(silent)} did not answer in {_HELLO_SECONDS:g} s or can't run weave_train; "
            "ssh must reach them without a password, and directory and Python be the same as here or named "
            "by --directory and --python"
        )
    first = connections[0]
    for other in connections[1:]:
        assert first.hello is not None
        assert other.hello is not None
        ours, theirs = first.hello["versions"], other.hello["versions"]
        differing = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
        if differing:
            raise ConfigError(
                f"hosts: {first.host} and {other.host} have different versions: {', '.join(differing)}; "
                "install the same on both"
            )


def _orders(job: Job, connections: Sequence[Connection]) -> Iterator[str]:
    """What each agent is told, a line of JSON."""
    for node, connection in enumerate(connections):
        meeting = job.meeting or _meeting(job, connections, node)
        yield json.dumps(
            {
                "command": start_command(job.launcher, job.reach.python, job.hosts, node, meeting),
                "num_ranks": job.hosts[node].slots,
                "settings": job.settings,
                "environment": job.environment if connection.host.name is not None else {},
            }
        )


def _meeting(job: Job, connections: Sequence[Connection], node: int) -> Rendezvous:
    first, own = connections[0].hello, connections[node].hello
    assert first is not None
    assert own is not None
    address = job.master_address or first["address"]
    if address is None:
        address = "127.0.0.1"
    is_local = address.startswith("127.") or address == "::1"
    if is_local and len(connections) > 1:
        raise ConfigError(
            f"hosts: {connections[0].host} was reached at {address}, where the others can't reach it; name "
            "it by its address in the network, or give --master_addr",
            origin="command line",
        )
    return Rendezvous(address, job.master_port or first["port"], len(connections), None, own["address"])


@contextmanager
def _passing_on_stop(connections: Sequence[Connection]) -> Iterator[None]:
    """Pass SIGTERM on: ranks save and end. Off the main thread no handler can be set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        for connection in connections:
            connection.tell("stop")

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
