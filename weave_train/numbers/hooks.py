"""What is told about a run while it runs; only the first rank tells it."""

from __future__ import annotations

from typing import Protocol

from weave_train.numbers.step_report import StepReport

__all__ = ["Hook"]


class Hook(Protocol):
    """Sees steps of a run, in order."""

    def on_step(self, report: StepReport) -> None:
        """Called after each optimizer step."""
        ...

    def close(self, *, has_failed: bool = False) -> None:
        """Called once, also when the run fails."""
        ...
