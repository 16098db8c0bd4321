"""`loss.png`: loss by step, its mean, and validation passes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from weave_data.errors import StoreError
from weave_train.numbers.metrics import read_metrics
from weave_train.numbers.step_report import StepReport
from weave_train.whole_files import write_whole

__all__ = ["LossCurve"]

_FEW_STEPS = 40
"""From here on a mean is drawn over the steps, on both sides of each; fewer need none."""


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

    def close(self, *, has_failed: bool = False) -> None:
        """Draw; a failed run's curve is worth seeing, and its own error more."""
        try:
            self._draw()
        except StoreError:
            if not has_failed:
                raise

    def _draw(self) -> None:
        metrics = read_metrics(self._run_dir)
        if not metrics:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        steps, losses = self._points(metrics, "Loss (Raw)")
        has_mean = len(steps) >= _FEW_STEPS
        axes.plot(
            steps,
            losses,
            linewidth=0.8 if has_mean else 1.2,
            alpha=0.5 if has_mean else 1.0,
            label="each step",
        )
        if has_mean:
            reach = len(steps) // _FEW_STEPS
            mean = _centred_mean(losses, reach)
            axes.plot(steps, mean, linewidth=1.6, label=f"mean of {2 * reach + 1} steps")
        steps, losses = self._points(metrics, "Validation Loss")
        if steps:
            axes.plot(steps, losses, "o-", color="black", markersize=4, linewidth=0.8, label="validation")
        axes.set_xlabel("step")
        axes.set_ylabel("loss per supervised token")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        write_whole(self._run_dir / "loss.png", picture.getvalue())

    def _points(self, metrics: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
        key = f"{self._prefix}/{name}"
        lines = [line for line in metrics if line.get(key) is not None]
        return [line[f"{self._prefix}/Step"] for line in lines], [line[key] for line in lines]


def _centred_mean(values: list[float], reach: int) -> list[float]:
    """Mean of each value and up to `reach` on both sides: [1, 2, 6], 1 -> [1.5, 3, 4]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, stop = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: list[float] = ((sums[stop] - sums[first]) / (stop - first)).tolist()
    return means
