"""What is told about a run while it runs: metrics, a loss curve, a progress line.

A hook sees every step on the first rank only. `metrics.jsonl` has VideoWeave's keys, `Finetune/Loss`
and so on, beside throughput; `Loss` is the mean over the last 128 steps, `Loss (Raw)` this step's.
"""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import IO, Any, Protocol

from weave_train.numbers.step_report import StepReport

__all__ = ["Hook", "JsonlTracker", "LossCurve", "ProgressLine", "StepReport", "read_metrics"]

_SMOOTHING_STEPS = 128


class Hook(Protocol):
    """Sees steps of a run, in order."""

    def on_step(self, report: StepReport) -> None:
        """Called after each optimizer step."""
        ...

    def close(self) -> None:
        """Called once, also when the run fails."""
        ...


class JsonlTracker:
    """Appends one JSON object a step to `metrics.jsonl`.

    Args:
        run_dir: Of the run.
        stage: `finetune` gives keys `Finetune/...`.
        start_step: Lines of later steps, which a killed run wrote after its last checkpoint, are cut.
    """

    def __init__(self, run_dir: Path, *, stage: str, start_step: int) -> None:
        self._prefix = stage.capitalize()
        self._losses: deque[float] = deque(maxlen=_SMOOTHING_STEPS)
        path = run_dir / "metrics.jsonl"
        kept = [line for line in read_metrics(run_dir) if line[f"{self._prefix}/Step"] <= start_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._losses.extend(line[f"{self._prefix}/Loss (Raw)"] for line in kept)
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def on_step(self, report: StepReport) -> None:
        """Write the step's line."""
        self._losses.append(report.loss)
        seconds = max(report.step_seconds, 1e-9)
        values = {
            "Step": report.step,
            "Epoch": report.epoch,
            "Loss": sum(self._losses) / len(self._losses),
            "Loss (Raw)": report.loss,
            "Learning Rate": report.learning_rate,
            "Gradient Norm": report.grad_norm,
            "Step Time": report.step_seconds,
            "Data Wait": report.data_wait_seconds,
            "Samples": report.rows,
            "Supervised Tokens": report.supervised_tokens,
            "Samples per Second": report.rows / seconds,
            "Tokens per Second": report.tokens / seconds,
            "Ledger": report.ledger,
        }
        self._file.write(json.dumps({f"{self._prefix}/{key}": value for key, value in values.items()}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl`; a last line cut short by a kill is left out."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    metrics = []
    for number, line in enumerate(lines):
        try:
            metrics.append(json.loads(line))
        except ValueError:
            if number != len(lines) - 1:
                raise
    return metrics


class LossCurve:
    """Draws `loss.png` from `metrics.jsonl` when the run ends."""

    def __init__(self, run_dir: Path, *, stage: str) -> None:
        self._run_dir = run_dir
        self._prefix = stage.capitalize()

    def on_step(self, report: StepReport) -> None:
        """Nothing: the metrics file has the points."""

    def close(self) -> None:
        """Draw."""
        metrics = read_metrics(self._run_dir)
        if not metrics:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        steps = [line[f"{self._prefix}/Step"] for line in metrics]
        axes.plot(steps, [line[f"{self._prefix}/Loss (Raw)"] for line in metrics], linewidth=1.0)
        axes.set_xlabel("step")
        axes.set_ylabel("loss per supervised token")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        figure.savefig(self._run_dir / "loss.png")


class ProgressLine:
    """A progress bar on standard error; plain lines now and then where that is no terminal."""

    def __init__(self, *, start_step: int, num_steps: int) -> None:
        from rich.console import Console  # only the first rank needs it
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._every = max(1, num_steps // 10)
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} tokens/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(
            "train", total=num_steps, completed=start_step, loss=float("nan"), rate=0.0
        )
        self._progress.start()

    def on_step(self, report: StepReport) -> None:
        """Move the bar."""
        rate = report.tokens / max(report.step_seconds, 1e-9)
        self._progress.update(self._task, completed=report.step, loss=report.loss, rate=rate)
        if not self._console.is_terminal and (
            report.step % self._every == 0 or report.step == report.num_steps
        ):
            self._console.print(
                f"step {report.step}/{report.num_steps}  loss {report.loss:.4f}  {rate:.0f} tokens/s",
                highlight=False,
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()
