"""One line on the terminal that says how a run fares."""

from __future__ import annotations

import math

from weave_train.numbers.step_report import StepReport

__all__ = ["ProgressLine"]


class ProgressLine:
    """A progress bar on standard error; plain lines now and then where that is no terminal."""

    def __init__(self, *, start_step: int, num_steps: int) -> None:
        from rich.console import Console  # only the first rank needs it
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._every = max(1, num_steps // 10)
        self._validation = ""
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=start_step, told="")
        self._progress.start()

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        if report.validation is not None:
            self._validation = f"  validation {report.validation.loss:.4f}"
        self._progress.update(self._task, completed=report.step, told=self._told(report, digits=3))
        is_told = report.step % self._every == 0 or report.step == report.num_steps
        if not self._console.is_terminal and (is_told or report.validation is not None):
            told = self._told(report, digits=4)
            self._console.print(
                f"step {report.step}/{report.num_steps}  {told}", highlight=False, soft_wrap=True
            )

    def close(self, *, has_failed: bool = False) -> None:  # noqa: ARG002  the error is printed by others
        """Leave the bar as it stands."""
        self._progress.stop()

    def _told(self, report: StepReport, *, digits: int) -> str:
        seconds = max(report.step_seconds, 1e-9)
        told = f"loss {report.loss:.{digits}f}{self._validation}  {report.tokens / seconds:.0f} tokens/s"
        if math.isfinite(report.mfu):
            told += f"  MFU {report.mfu:.1%}"
        if report.data_wait_seconds > 0.2 * seconds:
            told += f"  waits for rows {report.data_wait_seconds / seconds:.0%}"
        return told + ("  skipped" if report.was_skipped else "")
