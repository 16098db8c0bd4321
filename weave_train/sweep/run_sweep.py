"""A sweep from wherever it is to its table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from weave_data.errors import IncompleteError, TrainingError, WeaveError
from weave_train.sweep.cells import Cell, Sweep
from weave_train.sweep.children import Children
from weave_train.sweep.curves import draw_curves
from weave_train.sweep.figure import draw_figure
from weave_train.sweep.launchers import finish_here, finish_on_ray, stopping
from weave_train.sweep.outcome import gather
from weave_train.sweep.run_cell import CellFailure, Say
from weave_train.sweep.states import is_cell_done
from weave_train.sweep.table import table_lines
from weave_train.whole_files import write_whole

__all__ = ["run_sweep", "write_outcome"]


def run_sweep(
    sweep: Sweep,
    *,
    arms: Sequence[str] | None = None,
    launcher: Literal["local", "ray"] = "local",
    num_parallel: int | None = None,
    check: Callable[[], None] | None = None,
    say: Say,
) -> list[Path]:
    """Build, finish every chosen cell, write the table and the figure of all that are done.

    Args:
        sweep: Of `load_cells`.
        arms: Whose cells; None: all.
        launcher: Where cells run.
        num_parallel: Cells at once; None: one here, as many as there is room for on Ray.
        check: Called before anything is built or trained, where anything is left; what it raises ends the
            sweep.
        say: Told what happens.

    Returns:
        What was written.

    Raises:
        ConfigError: There is no such arm, or a cell's directory holds other runs.
        TrainingError: The build failed.
        IncompleteError: Cells failed or the sweep was stopped; the same command goes on.
    """
    chosen = sweep.chosen(arms)
    left = [cell for cell in chosen if not is_cell_done(cell)]
    say(f"{sweep.config.name}: {len(chosen) - len(left)} of {len(chosen)} cells are done")
    failures: list[CellFailure] = []
    if left:
        if check is not None:
            check()
        children = Children()
        with stopping(children):
            _build(sweep, children, say)
            if launcher == "local":
                failures = finish_here(left, children, say, num_parallel=num_parallel or 1)
        if launcher == "ray":
            failures = finish_on_ray(left, say, num_parallel=num_parallel)
    failed = {failure.cell for failure in failures}
    done = []
    for cell in sweep.cells:
        try:
            if cell.name not in failed and is_cell_done(cell):
                done.append(cell)
        except WeaveError as error:
            failures.append(CellFailure(cell.name, str(error)))
    written = write_outcome(sweep, done)
    if failures:
        raise IncompleteError(
            f"{len(failures)} of {len(sweep.cells)} cells failed, the others are in {written[0]}; the same "
            "command tries again: " + "; ".join(f"{each.cell}: {each.message}" for each in failures)
        )
    return written


def _build(sweep: Sweep, children: Children, say: Say) -> None:
    for build in sweep.builds:
        say(f"builds {build.config.output}")
        build.write()
        log = Path(sweep.config.output) / "builds" / f"{build.path.stem}.log"
        code = children.run(build.words(), log=log)
        if code:
            raise TrainingError(f"{' '.join(build.words())} ended with exit code {code}: see {log}")


def write_outcome(sweep: Sweep, done: Sequence[Cell]) -> list[Path]:
    """Write `table.md`, `table.json`, `curves.png` and, if it is asked for, `figure.png`."""
    output = Path(sweep.config.output)
    outcome = gather(sweep, done)
    written = [output / "table.md", output / "table.json"]
    write_whole(written[0], "\n".join(table_lines(sweep.config, outcome)))
    write_whole(written[1], json.dumps(outcome, indent=1, allow_nan=False) + "\n")
    if done:
        written.append(output / "curves.png")
        draw_curves(written[-1], done, title=sweep.config.name)
    if sweep.config.figure is not None:
        path = output / "figure.png"
        draw_figure(path, outcome["points"], figure=sweep.config.figure, title=sweep.config.name)
        written.append(path)
    return written
