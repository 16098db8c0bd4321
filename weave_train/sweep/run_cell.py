"""One cell from wherever it is to its end: train each stage, ask the last one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConfigError, IncompleteError, TrainingError, WeaveError
from weave_train.sweep.cells import Cell, CellStage
from weave_train.sweep.children import Children
from weave_train.sweep.states import Evaluated, evaluated_at, is_trained, published_steps, steps_to_ask

__all__ = ["CellFailure", "Say", "finish_cell", "train_command"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class CellFailure:
    """A cell that could not be finished; the others are."""

    cell: str
    message: str


def train_command(stage: CellStage) -> list[str]:
    """What trains a stage, as it can be typed."""
    return ["weave-train", "pretrain", *stage.words]


def finish_cell(
    cell: Cell, children: Children, say: Say, *, environment: Mapping[str, str] | None = None
) -> CellFailure | None:
    """Do what is left of a cell.

    Args:
        cell: Of a sweep.
        children: Starts its commands.
        say: Told what begins.
        environment: Variables of its commands.

    Returns:
        Why it could not be finished, or None.

    Raises:
        IncompleteError: The sweep was stopped.
    """
    try:
        for stage in cell.stages:
            if not is_trained(stage):
                _need_weights(cell, before=stage.name)
                _train(cell, stage, children, say, environment)
        for entry in cell.evaluations:
            for step in steps_to_ask(cell, entry):
                asked = evaluated_at(cell, entry, step)
                if not asked.is_done:
                    _need_weights(cell)
                    say(f"{cell.name}: asks {entry.called} of step {step}")
                    _ask(cell, asked, children, environment)
    except IncompleteError:
        raise
    except (WeaveError, OSError) as error:
        return CellFailure(cell.name, str(error))
    return None


def _need_weights(cell: Cell, *, before: str | None = None) -> None:
    """Refuse to go on from a run that was adopted without its weights."""
    names = [stage.name for stage in cell.stages]
    for stage in cell.stages[: names.index(before) if before else None]:
        if published_steps(stage) is not None:
            raise ConfigError(
                f"{stage.run_dir}: was adopted without its weights, and they are needed now; finish the cell "
                f"where it was trained, or delete {cell.directory} to train it here"
            )


def _train(
    cell: Cell, stage: CellStage, children: Children, say: Say, environment: Mapping[str, str] | None
) -> None:
    say(f"{cell.name}: trains {stage.name}")
    log = cell.directory / "logs" / f"{stage.name}.log"
    code = children.run(train_command(stage), log=log, environment=environment)
    if code:
        raise TrainingError(f"stage {stage.name} ended with exit code {code}: {_last_words(log)}")
    if not is_trained(stage):
        raise TrainingError(f"stage {stage.name} ended before its last step: {_last_words(log)}")


def _ask(cell: Cell, asked: Evaluated, children: Children, environment: Mapping[str, str] | None) -> None:
    name = f"{asked.entry.called}-{asked.directory.name}"
    log = cell.directory / "logs" / f"{name}.log"
    code = children.run(["weave-train", "evaluate", *asked.words()], log=log, environment=environment)
    if code:
        raise TrainingError(f"evaluation {name} ended with exit code {code}: {_last_words(log)}")
    results = asked.results / "results.json"
    try:
        json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"evaluation {name} left no {results}: {error}; see {log}") from error
    asked.note_done()


def _last_words(log: Path) -> str:
    """The last line that a command printed, and where the others are."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'} (see {log})"
