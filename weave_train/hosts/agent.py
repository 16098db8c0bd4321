"""Runs on each host of a run, below sshd: `python -m weave_train.hosts.agent`.

It says hello in one line (its address, a free port, versions), reads its order as one line of JSON from
standard input, and starts the launcher. A line `stop` asks the ranks to save and end, also those that are not
there yet. The end of standard input, which comes with the end of whoever gave the order, ends everything
here. So does silence, where the line between is lost and nobody says so: `alive` comes every few seconds.
Settings and variables come that way, too: no command line shows them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weave_train.hosts.starts import CONFIG
from weave_train.overseer import EXITS_VARIABLE, PARENT_VARIABLE, ask_to_stop, noted_exits

if TYPE_CHECKING:
    import psutil

__all__ = ["ALIVE_SECONDS", "HELLO", "main"]

ALIVE_SECONDS = 10.0
"""Between two lines of whoever gave the order."""

HELLO = "weave-train-host "
"""First word of the line that says hello."""

_PACKAGES = ("videoweave", "torch", "deepspeed")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_GRACE_SECONDS = 5.0
_SILENT_SECONDS = 120.0
_POLL_SECONDS = 0.1
_INTERRUPTED = 130  # also of ranks that were ended from here


def main() -> int:
    """Say hello, take the order, run it to its end; its exit code."""
    # what a killed launcher leaves behind becomes a child of this process
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    sys.stdout.write(f"{HELLO}{json.dumps(_hello())}\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        return 0
    return _carry_out(json.loads(line))


def _hello() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    # client address, client port, server address, server port
    connection = os.environ.get("SSH_CONNECTION", "").split()
    address = connection[2] if len(connection) == 4 else None
    return {
        "address": address,
        "port": port,
        "versions": {"python": platform.python_version(), **versions},
    }


def _carry_out(order: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory(prefix="weave-train-") as scratch:
        settings, exits = Path(scratch) / "pretrain.yaml", Path(scratch) / "exits"
        settings.write_text(order["settings"], encoding="utf-8")
        exits.mkdir()
        child = subprocess.Popen(
            [str(settings) if word == CONFIG else word for word in order["command"]],
            env={
                **os.environ,
                **order["environment"],
                PARENT_VARIABLE: str(os.getpid()),
                EXITS_VARIABLE: str(exits),
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        line = _Line(exits)
        try:
            while child.poll() is None and not line.is_lost():
                time.sleep(_POLL_SECONDS)
        finally:
            _end_all()
        return _code(child.wait(), noted_exits(exits), num_ranks=order["num_ranks"])


class _Line:
    """To whoever gave the order: heard in a thread of its own.

    Args:
        exits: Where ranks find the request to stop.
    """

    def __init__(self, exits: Path) -> None:
        self._exits = exits
        self._heard_at: float | None = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()

    def is_lost(self) -> bool:
        """Whether it ended, or nothing came over it for too long."""
        return self._heard_at is None or time.monotonic() - self._heard_at > _SILENT_SECONDS

    def _listen(self) -> None:
        for line in sys.stdin:
            self._heard_at = time.monotonic()
            if line.strip() == "stop":
                ask_to_stop(self._exits)
        self._heard_at = None


def _code(launcher: int, ranks: Sequence[int], *, num_ranks: int) -> int:
    """0 only where every rank and the launcher said so; else what a rank said, if it knew more than 1."""
    if launcher == 0 and list(ranks) == [0] * num_ranks:
        return 0
    known = [code for code in ranks if code not in (0, 1, _INTERRUPTED)]
    return known[0] if known else launcher if launcher > 0 else 1


def _end_all() -> None:
    """Leave nothing behind that was started here."""
    deadline = time.monotonic() + _GRACE_SECONDS
    _signal(_ranks(), signal.SIGINT)
    while _alive() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while alive := _alive():
        _signal(alive, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def _alive() -> list[psutil.Process]:
    import psutil

    alive = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _ranks() -> list[psutil.Process]:
    """Processes that have a rank from their launcher; what they started themselves is theirs to end."""
    import psutil

    found = []
    for process in _alive():
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            if "RANK" in process.environ() and parent is not None and "RANK" not in parent.environ():
                found.append(process)
    return found


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main())
