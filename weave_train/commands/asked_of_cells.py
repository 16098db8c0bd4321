"""Whether a sweep's evaluations can be asked at all: found out before a cell trains for hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from weave_data.errors import ConfigError, WeaveError
from weave_train.commands.evaluate import evaluate
from weave_train.sweep import Cell, Evaluated, Sweep

__all__ = ["check_evaluations", "check_questions"]

_OWN = ("data", "every-steps", "every_steps", "follow", "help", "task", "to")
"""Flags that a sweep sets itself."""

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Parent of all that a command line can do wrong; typer exports only its children."""


def check_evaluations(sweep: Sweep) -> None:
    """Refuse flags and tasks that `weave-train evaluate` would refuse.

    Raises:
        ConfigError: All that is wrong with them.
    """
    _refuse(sweep, list(_wrong_flags(sweep.cells[0])))


def check_questions(sweep: Sweep) -> None:
    """Refuse evaluations that would fail once trained: no question files, too many bad rows, no scorer.

    Raises:
        ConfigError: All that is wrong with them.
    """
    _refuse(sweep, list(_wrong_data(sweep.cells[0])))


def _refuse(sweep: Sweep, problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(problems, origin=sweep.config.name)


def _wrong_flags(cell: Cell) -> Iterator[str]:
    from weave_train.evaluate.run import check_modes
    from weave_train.evaluate.tasks.catalog import find_task

    command = _evaluate_command()
    for index, entry in enumerate(cell.evaluations):
        name = f"evaluate.{index}"
        own = [flag for flag in entry.flags if flag in _OWN]
        yield from (f"{name}.flags.{flag}: is the sweep's own" for flag in own)
        if own:
            continue
        if any(str(entry.flags.get(flag, "")).startswith("hf_") for flag in ("hf-token", "hf_token")):
            yield f"{name}.flags.hf-token: would be kept with the cells; name a file or a variable"
        words = Evaluated(cell.directory, str(cell.last.run_dir), entry).words()
        try:
            find_task(entry.task)
            given = command.make_context("weave-train evaluate", words).params
            check_modes([mode.strip() for mode in given["modes"].split(",") if mode.strip()])
        except _UsageError as error:
            yield f"{name}.flags: {error}"
        except ConfigError as error:
            yield f"{name}: {'; '.join(error.problems)}"


def _wrong_data(cell: Cell) -> Iterator[str]:
    from weave_data.storage import open_source
    from weave_train.evaluate.scoring import check_metrics
    from weave_train.evaluate.tasks.catalog import find_task
    from weave_train.evaluate.tasks.reading import TaskFiles

    command = _evaluate_command()
    for index, entry in enumerate(cell.evaluations):
        name = f"evaluate.{index}.data"
        words = Evaluated(cell.directory, str(cell.last.run_dir), entry).words()
        given = command.make_context("weave-train evaluate", words).params
        task = find_task(entry.task)
        try:
            asked = task.read(TaskFiles(open_source(entry.data))).first(given["limit"])
            if any(question.style == "open" for question in asked.questions):
                check_metrics(task.metrics, wordnet=given["wordnet"])
        except WeaveError as error:
            yield f"{name}: {error}"
            continue
        num_rows = len(asked.questions) + len(asked.lost)
        if not asked.questions or len(asked.lost) > given["max_lost"] * num_rows:
            first = f", the first {asked.lost[0].id}: {asked.lost[0].detail}" if asked.lost else ""
            yield f"{name}: {len(asked.lost)} of {num_rows} rows of {entry.data} can't be asked{first}"


def _evaluate_command() -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(evaluate)
    return typer.main.get_command(app)
