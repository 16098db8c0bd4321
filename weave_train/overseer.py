"""Between a rank and whoever started it: the rank ends with it, stops when asked, leaves it an exit code.

Launchers between them lose all three: a killed one leaves its ranks behind, SIGTERM kills a rank that is
still loading, torchrun says 1 for every code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "EXITS_VARIABLE",
    "FIXED_EXITS",
    "PARENT_VARIABLE",
    "TOLD_EXITS",
    "ask_to_stop",
    "first_cause",
    "is_asked_to_stop",
    "leave_with_parent",
    "note_exit",
    "noted_exits",
    "stop_this_rank",
]

PARENT_VARIABLE = "WEAVE_TRAIN_PARENT"
"""Process id of whoever started this rank, itself or through a launcher, and must not be outlived."""

EXITS_VARIABLE = "WEAVE_TRAIN_EXITS"
"""Folder in which each rank leaves its exit code and finds the request to stop."""

FIXED_EXITS = frozenset({2, 3})
"""Exit codes after which another start is in vain: a wrong configuration, missing credentials."""

TOLD_EXITS = FIXED_EXITS | {4, 5, 6, 70}
"""Exit codes that say why: those of `weave_data.errors` but 1, and a hang's."""

_STOP = "stop"
_stopping = threading.Event()

_POLL_SECONDS = 1.0


def leave_with_parent() -> None:
    """End this process when one of those between it and `WEAVE_TRAIN_PARENT` is gone, that one included.

    Without the variable, or where it names no ancestor, nothing happens. A killed launcher can't end its
    ranks, which would train on, unseen, holding their GPUs.
    """
    named = os.environ.get(PARENT_VARIABLE)
    if named is None:
        return
    import psutil

    chain = []
    for ancestor in psutil.Process().parents():
        chain.append(ancestor)
        if ancestor.pid == int(named):
            break
    else:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and all(_lives(ancestor) for ancestor in chain):
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _lives(ancestor: psutil.Process) -> bool:
        try:
            return ancestor.is_running() and ancestor.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    threading.Thread(target=watch, name="weave-parent", daemon=True).start()


def note_exit(code: int) -> None:
    """Leave this rank's exit code where `WEAVE_TRAIN_EXITS` says, if anywhere."""
    folder, rank = os.environ.get(EXITS_VARIABLE), os.environ.get("RANK")
    if folder and rank and Path(folder).is_dir():
        (Path(folder) / f"rank-{rank}").write_text(str(code), encoding="ascii")


def noted_exits(folder: Path) -> list[int]:
    """Codes of the ranks that ended by themselves, in the order of their ends."""
    notes = sorted(folder.glob("rank-*"), key=lambda note: note.stat().st_mtime_ns)
    return [int(text) for note in notes if (text := note.read_text(encoding="ascii"))]


def first_cause(codes: Sequence[int]) -> int:
    """Exit code of a run, from those of its ranks or hosts that failed, in the order in which they were seen.

    One that says why counts before the first, which may be how those end whose peers have gone: 1, ssh's 255,
    a signal (negative, 1 here).
    """
    return next((code for code in codes if code in TOLD_EXITS), max(codes[0], 1))


def ask_to_stop(folder: Path) -> None:
    """Have the ranks whose `WEAVE_TRAIN_EXITS` is `folder` save and end, those too that are not there yet."""
    with contextlib.suppress(FileNotFoundError):  # they have ended, and the folder with them
        (folder / _STOP).touch()


def stop_this_rank() -> None:
    """Have this process's rank save and end, where its launcher has no folder in common with it."""
    _stopping.set()


def is_asked_to_stop() -> bool:
    """True once whoever started this rank wants it to save and end."""
    if _stopping.is_set():
        return True
    folder = os.environ.get(EXITS_VARIABLE)
    return (Path(folder) / _STOP).exists() if folder else False
