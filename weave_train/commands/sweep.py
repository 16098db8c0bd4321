"""`weave-train sweep`: a table of arms and seeds from one file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["HELP", "sweep"]

HELP = """Train arms x seeds and compare them: weave-train sweep experiments/figure2.yaml

The file names recipes to build (one decode pass), flags of weave-train pretrain by stage and arm, seeds,
evaluations, contrasts and a figure. Each arm and seed is a cell, OUTPUT/cells/<arm>-s<seed>, with a run
directory for each stage. OUTPUT/table.md, table.json, figure.png and curves.png say what came out: means and
spread over seeds, paired differences with intervals over seeds and videos, Holm's p-values, losses.

Kill it anywhere: the same command goes on, skips what is done and gives the same table.
"""


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML; experiments/ has the paper's figures.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, commands and steps; write nothing.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Arms, with commas between them.")] = None,
    launcher: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: each cell is a task of the cluster at RAY_ADDRESS.")
    ] = "local",
    num_parallel: Annotated[
        int | None, typer.Option(min=1, help="Cells at once; local: 1, ray: as many as there is room for.")
    ] = None,
    adopt: Annotated[
        Path | None, typer.Option(help="Folder of published cells: they are done, and not run again.")
    ] = None,
    publish: Annotated[
        Path | None, typer.Option(help="Folder for what done cells answered and spent: all but weights.")
    ] = None,
) -> None:
    """Run what is left of a sweep, then print its table."""
    from weave_train.commands.asked_of_cells import check_evaluations, check_questions
    from weave_train.sweep import adopt_cells, load_cells, plan_lines, publish_cells, run_sweep

    loaded = load_cells(file)
    check_evaluations(loaded)
    arms = [arm.strip() for arm in only.split(",")] if only is not None else None
    if dry_run:
        for line in plan_lines(loaded, loaded.chosen(arms)):
            print(line)
        return
    if adopt is not None:
        adopted = {cell.name for cell in adopt_cells(loaded.chosen(arms), adopt)}
        for cell in loaded.chosen(arms):
            is_new = cell.name in adopted
            _say(
                f"{cell.name}: "
                + (f"adopted from {adopt}" if is_new else "not adopted: begun here, or not there")
            )
    check = partial(check_questions, loaded) if launcher == "local" else None
    try:
        written = run_sweep(
            loaded, arms=arms, launcher=launcher, num_parallel=num_parallel, check=check, say=_say
        )
    finally:
        published = [] if publish is None else publish_cells(loaded.chosen(arms), publish)
    print(written[0].read_text(encoding="utf-8"))
    print("written: " + ", ".join(map(str, [*written, *published])))


def _say(line: str) -> None:
    print(line, flush=True)
