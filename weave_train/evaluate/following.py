"""A run's checkpoints are evaluated as they are published, beside the run that goes on.

    RUN/checkpoints/step-000100, step-000200, ...   as they become complete
      -> RUN/evaluations/step-000100/<task>/...     as for any evaluation
      -> RUN/evaluations/curve.jsonl, curve.png     a row a step, task and mode

It needs nothing from the trainer but its checkpoints: it may run on another machine, start late, or be killed
and started again.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError, SourceError
from weave_train.checkpoint.layout import (
    Checkpoint,
    complete_steps,
    find_checkpoint_at,
    read_checkpoint,
    run_checkpoints,
)

__all__ = ["curve_rows", "new_checkpoints", "step_folder", "write_curve"]

POLL_SECONDS = 10.0


def step_folder(folder: Path, step: int | None) -> Path:
    """Where the results of one step lie below a run's; `folder` itself where there is no step."""
    return folder if step is None else folder / f"step-{step:06d}"


def new_checkpoints(
    run: str,
    *,
    done: set[int],
    every_steps: int = 1,
    wait: Callable[[float], None] = time.sleep,
    poll_seconds: float = POLL_SECONDS,
) -> Iterator[Checkpoint]:
    """Checkpoints of a run in the order they are published, until that of its last step.

    One that is removed before it is read is left out: a run keeps as many as its `checkpoint.keep` says.

    Args:
        run: Run directory or its `--checkpoint.uri`; the run may not have saved yet.
        done: Steps that are left out.
        every_steps: Only multiples of it, and the last step.
        wait: For seconds.
        poll_seconds: Between two looks.

    Raises:
        ConfigError: `run` is one checkpoint.
        StoreError: The store can't be reached.
    """
    if "checkpoints/step-" in run:
        raise ConfigError(f"follow: {run} is one checkpoint; give the run directory", origin="command line")
    seen = set(done)
    while True:
        store = run_checkpoints(run)
        for step in [step for step in complete_steps(store) if step not in seen]:
            seen.add(step)
            try:
                checkpoint = read_checkpoint(store, step)
            except (ConfigError, SourceError):
                continue  # removed meanwhile
            is_last = step >= int(checkpoint.state.get("num_steps", step + 1))
            if step % every_steps == 0 or is_last:
                yield checkpoint
        if _is_finished(run, seen):
            return
        wait(poll_seconds)


def _is_finished(run: str, seen: set[int]) -> bool:
    try:
        newest = find_checkpoint_at(run)
    except ConfigError:
        return False
    return newest.step in seen and newest.step >= int(newest.state.get("num_steps", newest.step + 1))


def curve_rows(folder: Path, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each step, task and mode that was evaluated below `folder`, by step.

    Raises:
        SourceError: A result is damaged.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("step-*/*/results.json")):
        task, step = path.parent.name, int(path.parent.parent.name.removeprefix("step-"))
        if task not in tasks:
            continue
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            rows += [
                {"step": step, "task": task, "mode": mode, "count": found["count"], "scores": found["scores"]}
                for mode, found in results["modes"].items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{path}: damaged ({error}); remove its folder and evaluate again") from error
    return sorted(rows, key=lambda row: (row["step"], row["task"]))


def write_curve(folder: Path, tasks: Sequence[str]) -> None:
    """Write `curve.jsonl` and `curve.png` of what is there, whole or not at all."""
    rows = curve_rows(folder, tasks)
    _write(folder / "curve.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    if rows:
        _write(folder / "curve.png", _picture(rows))


def _picture(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The first score of each task and mode by step, with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for task, mode in dict.fromkeys((row["task"], row["mode"]) for row in rows):
        of_mode = [row for row in rows if (row["task"], row["mode"]) == (task, mode) and row["scores"]]
        name = next(
            (n for row in of_mode for n in ("likelihood", *row["scores"]) if n in row["scores"]), None
        )
        points = [(row["step"], row["scores"][name]) for row in of_mode if name in row["scores"]]
        if not points:
            continue
        steps, scores = zip(*points, strict=True)
        (line,) = axes.plot(
            steps, [score["mean"] for score in scores], "o-", markersize=4, label=f"{task}, {mode}: {name}"
        )
        axes.fill_between(
            steps,
            [score["low"] for score in scores],
            [score["high"] for score in scores],
            alpha=0.15,
            color=line.get_color(),
            linewidth=0,
        )
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _write(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(data)
    unfinished.replace(path)
