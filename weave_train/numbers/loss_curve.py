"""`loss.png`: loss by step, its mean, and validation passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weave_train.numbers.metrics import read_metrics
from weave_train.numbers.step_report import StepReport

__all__ = ["LossCurve"]

_FEW_STEPS = 40
"""The mean over the last steps is drawn from here on; before, it hides the loss."""


class LossCurve:
    """Draws `loss.png` from `metrics.jsonl` after each validation pass and when the run ends.

    It comes after the tracker that writes the file.
    """

    def __init__(self, run_dir: Path, *, stage: str) -> None:
        self._run_dir = run_dir
        self._prefix = stage.capitalize()

    def on_step(self, report: StepReport) -> None:
        """Draw where there is a new validation point."""
        if report.validation is not None:
            self._draw()

    def close(self, *, has_failed: bool = False) -> None:  # noqa: ARG002  a failed run's curve is worth seeing
        """Draw."""
        self._draw()

    def _draw(self) -> None:
        metrics = read_metrics(self._run_dir)
        if not metrics:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        has_mean = len(metrics) >= _FEW_STEPS
        axes.plot(
            *self._points(metrics, "Loss (Raw)"),
            linewidth=0.8 if has_mean else 1.2,
            alpha=0.5 if has_mean else 1.0,
            label="each step",
        )
        if has_mean:
            axes.plot(*self._points(metrics, "Loss"), linewidth=1.6, label="mean of 128 steps")
        steps, losses = self._points(metrics, "Validation Loss")
        if steps:
            axes.plot(steps, losses, "o-", color="black", markersize=4, linewidth=0.8, label="validation")
        axes.set_xlabel("step")
        axes.set_ylabel("loss per supervised token")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        unfinished = self._run_dir / ".loss.png.part"
        figure.savefig(unfinished, format="png")
        unfinished.replace(self._run_dir / "loss.png")

    def _points(self, metrics: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
        key = f"{self._prefix}/{name}"
        lines = [line for line in metrics if line.get(key) is not None]
        return [line[f"{self._prefix}/Step"] for line in lines], [line[key] for line in lines]
