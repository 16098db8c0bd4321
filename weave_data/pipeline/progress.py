"""How a build reports what is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["OnBusy", "OnProgress", "no_progress", "nobody_busy"]

OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, total, unit), called as items of a stage are done."""


def no_progress(stage: str, done: int, total: int, unit: str) -> None:
    """Report nothing."""


class OnBusy(Protocol):
    """Told how long a worker of a stage was busy with one item."""

    def __call__(self, stage: str, busy_seconds: float, *, workers: int) -> None:
        """`workers` share the stage."""
        ...


def nobody_busy(stage: str, busy_seconds: float, *, workers: int) -> None:
    """Ignore it."""
