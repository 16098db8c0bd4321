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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError, IncompleteError, RejectLimitError, SourceError, VerificationError
from weave_train.checkpoint.layout import (
    Checkpoint,
    complete_steps,
    find_checkpoint_at,
    read_checkpoint,
    run_checkpoints,
)
from weave_train.whole_files import write_whole

__all__ = [
    "answered_steps",
    "curve_rows",
    "failure_of_steps",
    "is_removed",
    "new_checkpoints",
    "step_folder",
    "write_curve",
]

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
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Checkpoint]:
    """Checkpoints of a run in the order they are published, until that of its last step.

    One that is removed before it is read is left out: a run keeps as many as its `checkpoint.keep` says.

    Args:
        run: Run directory or its `--checkpoint.uri`; the run may not have saved yet.
        done: Steps that are left out.
        every_steps: Only multiples of it, and the last step.
        wait: For seconds.
        poll_seconds: Between two looks.
        tell: Told which steps are left out because they were removed.

    Raises:
        ConfigError: `run` is one checkpoint.
        StoreError: The store can't be reached.
        VerificationError: A checkpoint is damaged.
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
            except (ConfigError, SourceError, VerificationError) as error:
                if isinstance(error, VerificationError) and step in complete_steps(store):
                    raise
                tell(f"step {step}: the run removed it before it was read; left out")
                continue
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


def is_removed(checkpoint: Checkpoint) -> bool:
    """Whether the run has removed a checkpoint since it was found."""
    return checkpoint.step not in complete_steps(checkpoint.store)


def answered_steps(folder: Path, tasks: Sequence[str]) -> set[int]:
    """Steps with results of every task, none of which lost too much: those are asked again while they last.

    Raises:
        SourceError: A result is damaged.
    """
    results = _results(folder, tasks)
    found, failed = {(r.step, r.task) for r in results}, {r.step for r in results if r.has_failed}
    return {step for step, _ in found if all((step, name) in found for name in tasks)} - failed


def failure_of_steps(folder: Path, tasks: Sequence[str]) -> RejectLimitError | IncompleteError | None:
    """Which steps lost more of a task than was allowed.

    Returns:
        An `IncompleteError` where only circumstances did it.

    Raises:
        SourceError: A result is damaged.
    """
    failed = [result for result in _results(folder, tasks) if result.has_failed]
    if not failed:
        return None
    names = ", ".join(f"{result.step} ({result.task})" for result in failed)
    said = (
        f"more rows than --max-lost allows have no answer at step {names}; see {folder}/step-*/*/lost.jsonl, "
        "mend what is lost and give the same command"
    )
    is_circumstance = all(result.is_circumstance for result in failed)
    return IncompleteError(said) if is_circumstance else RejectLimitError(said)


def curve_rows(folder: Path, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each step, task and mode that was evaluated below `folder`, by step.

    Raises:
        SourceError: A result is damaged.
    """
    return [row for result in _results(folder, tasks) for row in result.rows]


@dataclass(frozen=True)
class _Result:
    step: int
    task: str
    rows: Sequence[dict[str, Any]]
    has_failed: bool
    is_circumstance: bool


def _results(folder: Path, tasks: Sequence[str]) -> list[_Result]:
    """Of each step and task, by step."""
    found = []
    for path in folder.glob("step-*/*/results.json"):
        task, step = path.parent.name, int(path.parent.parent.name.removeprefix("step-"))
        if task not in tasks:
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            rows = [
                {
                    "step": step,
                    "task": task,
                    "mode": mode,
                    "count": of_mode["count"],
                    "scores": of_mode["scores"],
                }
                for mode, of_mode in values["modes"].items()
            ]
            has_failed, is_circumstance = (
                values.get("has_failed", False),
                values.get("is_circumstance", False),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{path}: damaged ({error}); remove its folder and evaluate again") from error
        found.append(_Result(step, task, rows, has_failed, is_circumstance))
    return sorted(found, key=lambda result: (result.step, result.task))


def write_curve(folder: Path, tasks: Sequence[str]) -> None:
    """Write `curve.jsonl` and `curve.png` of what is there, whole or not at all."""
    rows = curve_rows(folder, tasks)
    write_whole(folder / "curve.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    if rows:
        write_whole(folder / "curve.png", _picture(rows))


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
