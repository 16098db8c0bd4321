"""Metrics of a step by name, and the file that always has them.

`metrics.jsonl` has one line a step. VideoWeave's keys keep their names, `Finetune/Loss` and so on: `Loss`
is the mean over the last 128 steps, `Loss (Raw)` this step's. What is not known (MFU without a known
peak, a loss that is not finite) is null. A validation pass adds its keys to its step's line.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from weave_train.numbers.step_report import StepReport
from weave_train.whole_files import disk_error, write_whole

__all__ = ["JsonlTracker", "StepMetrics", "last_loss", "read_metrics"]

_SMOOTHING_STEPS = 128


class StepMetrics:
    """Turns reports into metrics.

    Args:
        stage: `finetune` gives keys `Finetune/...`.
        past: Metrics of earlier steps, which the mean of the loss goes on from.
    """

    def __init__(self, stage: str, past: Iterable[Mapping[str, Any]] = ()) -> None:
        self._prefix = stage.capitalize()
        losses = (line[f"{self._prefix}/Loss (Raw)"] for line in past)
        self._losses = deque((loss for loss in losses if loss is not None), maxlen=_SMOOTHING_STEPS)

    def of(self, report: StepReport) -> dict[str, Any]:
        """Metrics of the next step."""
        if math.isfinite(report.loss):
            self._losses.append(report.loss)
        values = {
            "Step": report.step,
            "Epoch": report.epoch,
            "Loss": sum(self._losses) / max(1, len(self._losses)),
            "Loss (Raw)": report.loss,
            "Learning Rate": report.learning_rate,
            "Gradient Norm": report.grad_norm,
            **{f"Gradient Norm ({name.capitalize()})": norm for name, norm in report.module_norms.items()},
            **_times(report),
            **_rates(report),
            "Model TFLOP": report.model_flops / 1e12,
            "Hardware TFLOP": report.hardware_flops / 1e12,
            "MFU": report.mfu,
            "HFU": report.hfu,
            "Memory Bytes": report.memory_bytes,
            "Skipped": report.was_skipped,
            **({"Skip Reason": report.skip_reason} if report.skip_reason else {}),
            **_validation(report),
            "Ledger": report.ledger,
        }
        return {f"{self._prefix}/{name}": _known(value) for name, value in values.items()}


def _times(report: StepReport) -> dict[str, Any]:
    return {
        "Step Time": report.step_seconds,
        "Data Wait": report.data_wait_seconds,
        "Save Wait": report.save_wait_seconds,
        "Read Time": report.read_seconds,
        "Encode Time": report.encode_seconds,
        "Read Bytes": report.read_bytes,
    }


def _rates(report: StepReport) -> dict[str, Any]:
    seconds = max(report.step_seconds, 1e-9)
    return {
        "Samples": report.rows,
        "Tokens": report.tokens,
        "Visual Tokens": report.visual_tokens,
        "Supervised Tokens": report.supervised_tokens,
        "Padding": report.padded_tokens / max(1, report.tokens + report.padded_tokens),
        "Samples per Second": report.rows / seconds,
        "Tokens per Second": report.tokens / seconds,
        "Visual Tokens per Second": report.visual_tokens / seconds,
        "Supervised Tokens per Second": report.supervised_tokens / seconds,
    }


def _validation(report: StepReport) -> dict[str, Any]:
    if report.validation is None:
        return {}
    return {
        "Validation Loss": report.validation.loss,
        "Validation Samples": report.validation.rows,
        "Validation Supervised Tokens": report.validation.supervised_tokens,
        "Validation Time": report.validation.seconds,
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonlTracker:
    """Appends one JSON object a step to `metrics.jsonl`.

    Args:
        run_dir: Of the run.
        stage: Of the run.
        start_step: Lines of later steps, which a killed run wrote after its last checkpoint, are cut.
    """

    def __init__(self, run_dir: Path, *, stage: str, start_step: int) -> None:
        path, step_key = run_dir / "metrics.jsonl", f"{stage.capitalize()}/Step"
        kept = [line for line in read_metrics(run_dir) if line[step_key] <= start_step]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._metrics = StepMetrics(stage, kept)
        self._path = path
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def on_step(self, report: StepReport) -> None:
        """Write the step's line.

        Raises:
            StoreError: The disk is full.
        """
        try:
            self._file.write(json.dumps(self._metrics.of(report), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise disk_error(self._path, error) from error

    def close(self, *, has_failed: bool = False) -> None:  # noqa: ARG002  the lines are written
        """Close the file."""
        with contextlib.suppress(OSError):  # a full disk, said by `on_step`: its line is cut
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


def last_loss(run_dir: Path, *, stage: str) -> float:
    """Loss of the stage's last step in `metrics.jsonl`; nan without one, or where it was not finite."""
    name = f"{stage.capitalize()}/Loss (Raw)"
    losses = [line[name] for line in read_metrics(run_dir) if name in line]
    loss = losses[-1] if losses else None
    return math.nan if loss is None else float(loss)
