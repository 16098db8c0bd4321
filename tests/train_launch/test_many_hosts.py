"""A run on several hosts, seen from where it was started: requests to stop, and whose exit code counts."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from weave_data import errors
from weave_train import plugin
from weave_train.hosts import agent, fan_out
from weave_train.hosts.fan_out import Job, run_on_hosts
from weave_train.hosts.hostfile import Host
from weave_train.overseer import EXITS_VARIABLE, TOLD_EXITS, ask_to_stop, first_cause
from weave_train.train.stop import StopRequest
from weave_train.train.watchdog import HANG_EXIT_CODE

HELLO = {"address": "10.0.0.1", "port": 1, "versions": {"torch": "2"}}


@dataclass
class FakeHost:
    """An agent's end of a connection; `script` is called at each poll with the lines told so far."""

    host: Host
    reach: Any
    lines: list[str] = field(default_factory=list)
    is_hung_up: bool = False
    num_polls_since: int = 0
    hello: dict[str, Any] | None = field(default_factory=lambda: HELLO)

    made: ClassVar[list[FakeHost]]
    script: ClassVar[Callable[[FakeHost], int | None]]

    def __post_init__(self) -> None:
        self.has_answered = threading.Event()
        self.has_answered.set()
        FakeHost.made.append(self)

    def tell(self, line: str) -> None:
        self.lines.append("order" if line.startswith("{") else line)

    def poll(self) -> int | None:
        return FakeHost.script(self)

    def hang_up(self) -> None:
        self.is_hung_up = True

    def wait(self, timeout_s: float) -> None:
        """Has ended."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run on two hosts that answer by a script."""
    monkeypatch.setattr(fan_out, "Connection", FakeHost)
    monkeypatch.setattr(fan_out, "_POLL_SECONDS", 0.001)
    FakeHost.made = []

    def start(script: Callable[[FakeHost], int | None], *, max_restarts: int = 0) -> int:
        FakeHost.script = staticmethod(script)
        hosts = (Host("gpu-1", 1), Host("gpu-2", 1))
        return run_on_hosts(Job("torchrun", hosts, "", master_address="10.0.0.1", max_restarts=max_restarts))

    return start


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def told() -> list[list[str]]:
    return [host.lines for host in FakeHost.made]


def test_hosts_hear_that_somebody_is_there(run, monkeypatch) -> None:
    monkeypatch.setattr(fan_out, "ALIVE_SECONDS", 0.0)
    assert run(lambda host: 0 if host.lines.count("alive") > 2 else None) == 0


@pytest.mark.parametrize("says", [b"alive\n", None])
def test_an_agent_gives_a_silent_line_up(says: bytes | None, tmp_path: Path, monkeypatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as there, os.fdopen(writing, "wb", buffering=0) as here:
        monkeypatch.setattr(agent.sys, "stdin", there)
        monkeypatch.setattr(agent, "_SILENT_SECONDS", 2.0)
        line = agent._Line(tmp_path)
        began = time.monotonic()
        while not line.is_lost() and time.monotonic() - began < 5.0:
            if says is not None:
                here.write(says)
            time.sleep(0.1)
        assert line.is_lost() is (says is None)
        here.write(b"stop\n")
        here.close()
        while not line.is_lost() and time.monotonic() - began < 60.0:
            time.sleep(0.01)
        assert line.is_lost()
    assert [path.name for path in tmp_path.iterdir()] == ["stop"]


def test_a_stop_while_hosts_are_reached_starts_no_rank(run, monkeypatch) -> None:
    greet = fan_out._greet

    def greet_late(*arguments: Any) -> None:
        ask()
        for host in FakeHost.made:  # one that does not answer keeps nobody waiting
            host.has_answered.clear()
            host.hello = None
        greet(*arguments)

    monkeypatch.setattr(fan_out, "_greet", greet_late)
    assert run(lambda _: 1, max_restarts=3) == 0
    assert told() == [[], []]
    assert all(host.is_hung_up for host in FakeHost.made)


def test_a_stop_is_passed_on_once_and_ranks_that_end_well_end_the_run(run) -> None:
    asked = []

    def script(host: FakeHost) -> int | None:
        if not asked:
            asked.append(ask())
        host.num_polls_since += "stop" in host.lines
        return 0 if host.num_polls_since > 2 else None

    assert run(script, max_restarts=3) == 0
    assert told() == [["order", "stop"], ["order", "stop"]]


def test_a_run_that_fails_after_a_stop_is_not_started_anew(run, capsys) -> None:
    def script(_host: FakeHost) -> int | None:
        if not any("stop" in lines for lines in told()):
            ask()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # hosts are polled twice
            return None
        return 1

    assert run(script, max_restarts=3) == 1
    assert len(FakeHost.made) == 2
    assert "restart" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second", "second_later", "code"),
    [
        (1, 3, None, 3),  # both by one poll
        (1, None, 3, 3),  # the host that knows why ends last
        (-9, None, 5, 5),
        (255, None, 130, 255),  # the connection was lost; the other was ended from here
        (-9, None, 130, 1),
        (6, 3, None, 6),
        (-9, 0, None, 1),
    ],
)
def test_the_cause_is_told_and_not_how_others_were_torn_down(run, first, second, second_later, code) -> None:
    def script(host: FakeHost) -> int | None:
        if host.host.name == "gpu-1":
            return first
        return second_later if host.is_hung_up and second is None else second

    assert run(script) == code


def test_a_cause_that_stays_is_not_started_anew_because_another_host_was_polled_first(run) -> None:
    assert run(lambda host: 1 if host.host.name == "gpu-1" else 3, max_restarts=2) == 3
    assert len(FakeHost.made) == 2
    assert run(lambda _: 1, max_restarts=2) == 1
    assert len(FakeHost.made) == 2 + 6


def test_codes_that_say_why_are_those_of_our_errors_and_of_a_hang() -> None:
    ours = {getattr(errors, name).exit_code for name in errors.__all__ if hasattr(errors, name)}
    assert (ours | {HANG_EXIT_CODE}) - {1} == TOLD_EXITS
    assert first_cause([-15, 1]) == 1
    assert first_cause([-15, -9]) == 1


def test_a_rank_that_comes_after_the_stop_finds_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("stop\n"))
    line = agent._Line(tmp_path)
    while not line.is_lost():
        time.sleep(0.01)
    monkeypatch.setenv(EXITS_VARIABLE, str(tmp_path))
    with StopRequest() as stop:
        assert stop.is_made
    monkeypatch.setenv(EXITS_VARIABLE, str(tmp_path / "other"))
    assert not stop.is_made
    ask_to_stop(tmp_path / "gone")


@pytest.mark.parametrize(("codes", "code"), [((1, 3), 3), ((-9, 5), 5), ((-9, 1), -9)])
def test_among_local_ranks_that_failed_at_once_the_one_that_says_why_counts(codes, code, monkeypatch) -> None:
    class FakeRank:
        def __init__(self, _command: Any, *, env: dict[str, str], **_options: Any) -> None:
            self._code = codes[int(env["RANK"])]

        def poll(self) -> int:
            return self._code

    monkeypatch.setattr(plugin.subprocess, "Popen", FakeRank)
    assert plugin.run_ranks(["x"], num_ranks=2) == code
