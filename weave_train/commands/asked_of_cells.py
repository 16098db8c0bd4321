"""Whether a sweep's evaluations can be asked at all: found out before a cell trains for hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from weave_data.errors import ConfigError, WeaveError
from weave_train.commands.evaluate import evaluate
from weave_train.sweep import Cell, Evaluated, Sweep

__all__ = ["check_evaluations", "check_questions"]

_OWN = ("data", "every-steps", "every_steps", "follow", "task", "to")
"""Flags that a sweep sets itself."""

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def check_evaluations(sweep: Sweep) -> None:
    """Refuse flags and tasks that `weave-train evaluate` would refuse.

    Raises:
        ConfigError: All that is wrong with them.
    """
    _refuse(sweep, list(_wrong_flags(sweep.cells[0])))


def check_questions(sweep: Sweep) -> None:
    """Refuse evaluations whose question files are not there, can't be read or hold no question.

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

    app = typer.Typer(add_completion=False)
    app.command()(evaluate)
    command = typer.main.get_command(app)
    for index, entry in enumerate(cell.evaluations):
        name = f"evaluate.{index}"
        own = [flag for flag in entry.flags if flag in _OWN]
        yield from (f"{name}.flags.{flag}: is the sweep's own" for flag in own)
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
    from weave_train.evaluate.tasks.catalog import find_task
    from weave_train.evaluate.tasks.reading import TaskFiles

    for index, entry in enumerate(cell.evaluations):
        name = f"evaluate.{index}.data"
        try:
            asked = find_task(entry.task).read(TaskFiles(open_source(entry.data)))
        except WeaveError as error:
            yield f"{name}: {error}"
            continue
        if not asked.questions:
            yield f"{name}: no row of {entry.data} is a question that can be asked ({len(asked.lost)} lost)"
