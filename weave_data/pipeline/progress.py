"""How a build reports what is done."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress", "no_progress"]

OnProgress = Callable[[str, int, int, str], None]
"""(stage, done, total, unit), called as items of a stage are done."""


def no_progress(stage: str, done: int, total: int, unit: str) -> None:
    """Report nothing."""
