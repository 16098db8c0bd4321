"""Between a rank and whoever started it: the rank ends with it, and leaves it an exit code.

Launchers between them lose both: a killed one leaves its ranks behind, torchrun says 1 for every code.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

__all__ = ["EXITS_VARIABLE", "PARENT_VARIABLE", "leave_with_parent", "note_exit", "noted_exits"]

PARENT_VARIABLE = "WEAVE_TRAIN_PARENT"
"""Process id of whoever started this rank, itself or through a launcher, and must not be outlived."""

EXITS_VARIABLE = "WEAVE_TRAIN_EXITS"
"""Folder in which each rank leaves its exit code."""

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
