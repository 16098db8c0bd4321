"""Starts a run on all its hosts, ends it everywhere, says with which code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from weave_data.errors import ConfigError, DeviceError
from weave_train.hosts.agent import ALIVE_SECONDS
from weave_train.hosts.connection import Connection, Reach, agent_command
from weave_train.hosts.hostfile import Host
from weave_train.hosts.starts import HostLauncher, Rendezvous, start_command
from weave_train.overseer import FIXED_EXITS, first_cause
from weave_train.train.stop import StopRequest

__all__ = ["Job", "planned", "run_on_hosts"]

_HELLO_SECONDS = 120.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.1
_PASSED_ON = ("AWS_", "DS_", "GLOO_", "HF_", "NCCL_", "OMP_", "PYTHON", "TORCH_", "UCX_", "WANDB_", "WEAVE_")


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
    """Run to the end, started anew `max_restarts` times, or until Ctrl-C.

    SIGTERM: the ranks save and end, also those that still load; none is started afterwards. One that comes
    5 s later ends this process, and with it all hosts.

    Returns:
        0, or the exit code of what failed (`overseer.first_cause`).

    Raises:
        ConfigError: Hosts differ in what is installed, or don't know the first one's address.
        DeviceError: A host can't be reached.
    """
    with StopRequest() as stop:
        for restart in range(job.max_restarts + 1):
            code = _run_once(job, stop)
            if code == 0 or code in FIXED_EXITS or stop.is_made or restart == job.max_restarts:
                return code
            sys.stderr.write(
                f"weave-train: the run ended with exit code {code}; restart {restart + 1} of "
                f"{job.max_restarts}\n"
            )
    raise AssertionError("unreachable")


def _run_once(job: Job, stop: StopRequest) -> int:
    """Start on all hosts, unless asked to stop before; when one fails or Ctrl-C comes, all are ended."""
    connections: list[Connection] = []
    try:
        # one by one: those that are there are hung up when the next can't be made
        connections.extend(Connection(host, job.reach) for host in job.hosts)
        _greet(connections, stop)
        if stop.is_made:
            return 0
        for connection, order in zip(connections, _orders(job, connections), strict=True):
            connection.tell(order)
        failed = _watch(connections, stop)
    finally:
        _end(connections)
    if not failed:
        return 0
    # a host whose rank knows why may end after one that was only torn down
    return first_cause([*failed, *(code for connection in connections if (code := connection.poll()))])


def _watch(connections: Sequence[Connection], stop: StopRequest) -> list[int]:
    """Until all hosts have ended well or one has failed; the codes of those that have by then."""
    is_passed_on, told_at = False, time.monotonic()
    while True:
        if time.monotonic() - told_at >= ALIVE_SECONDS:
            told_at = time.monotonic()
            for connection in connections:
                connection.tell("alive")
        if stop.is_made and not is_passed_on:
            is_passed_on = True
            for connection in connections:
                connection.tell("stop")
        codes = [connection.poll() for connection in connections]
        failed = [code for code in codes if code]
        if failed or all(code == 0 for code in codes):
            return failed
        time.sleep(_POLL_SECONDS)


def _end(connections: Sequence[Connection]) -> None:
    with ExitStack() as closing:
        for connection in connections:
            closing.callback(connection.wait, _END_SECONDS)
        for connection in connections:
            connection.hang_up()


def _greet(connections: Sequence[Connection], stop: StopRequest) -> None:
    deadline = time.monotonic() + _HELLO_SECONDS
    for connection in connections:
        while not stop.is_made and time.monotonic() < deadline:
            if connection.has_answered.wait(_POLL_SECONDS):
                break
    if stop.is_made:
        return
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
