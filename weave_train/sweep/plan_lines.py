"""What `weave-train sweep --dry-run` prints: builds, cells, commands, steps."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from weave_data.errors import WeaveError
from weave_data.shard import load_manifest
from weave_train.sweep.builds import estimate_samples
from weave_train.sweep.cells import Cell, CellStage, Sweep
from weave_train.sweep.run_cell import train_command
from weave_train.sweep.states import evaluated_at, is_cell_done, is_trained

__all__ = ["num_steps", "plan_lines"]


def plan_lines(sweep: Sweep, cells: Sequence[Cell]) -> Iterator[str]:
    """Lines for people; nothing is written.

    Args:
        sweep: Of the file.
        cells: Those that were chosen.

    Raises:
        ConfigError: A cell's directory holds other runs.
    """
    config = sweep.config
    num_arms = len({cell.arm for cell in cells})
    yield (
        f"{config.name}: {len(cells)} cells, {num_arms} arms x {len(config.seeds)} seeds, "
        f"{len(config.stages)} stages, {len(config.evaluate)} evaluations, output {config.output}"
    )
    for build in sweep.builds:
        recipes = ", ".join(recipe.name for recipe in build.config.recipes)
        yield f"build into {build.config.output}: {recipes}"
        yield f"  {shlex.join(build.words())}"
    total, is_whole = 0, True
    for cell in cells:
        yield f"{cell.name}{': done' if is_cell_done(cell) else ''}"
        for stage in cell.stages:
            steps = num_steps(sweep, stage)
            total, is_whole = total + (steps or 0), is_whole and steps is not None
            done = ", done" if is_trained(stage) else ""
            yield f"  {stage.name}: {'steps known once built' if steps is None else f'{steps:,} steps'}{done}"
            yield f"    {shlex.join(train_command(stage))}"
        for entry in cell.evaluations:
            which = "each checkpoint" if entry.checkpoints == "all" else "the last checkpoint"
            words = evaluated_at(cell, entry, 0).words()
            shown = shlex.join(["weave-train", "evaluate", *words]).replace("step-000000", "step-N")
            yield f"  {entry.called}, {which}:"
            yield f"    {shown}"
    yield f"{'' if is_whole else 'at least '}{total:,} steps in all"


def num_steps(sweep: Sweep, stage: CellStage) -> int | None:
    """Optimizer steps of a run, as far as settings or a manifest that is there say; None: they don't."""
    hyper = stage.config.hyper
    if hyper.max_steps is not None:
        return hyper.max_steps
    samples = _samples(sweep, stage)
    if samples is None:
        return None
    # an epoch's last, short batch is a step, too
    return -(-samples // hyper.global_batch_size) * hyper.epochs


def _samples(sweep: Sweep, stage: CellStage) -> int | None:
    """Of one epoch."""
    recipe = sweep.recipes.recipe(stage.recipe) if stage.recipe else None
    if recipe is not None and (known := estimate_samples(recipe)) is not None:
        return known
    uri = stage.config.dataset.manifest
    if uri is None or uri.startswith("s3://"):
        return None
    try:
        shards = load_manifest(uri).select(split=stage.config.dataset.split)
    except WeaveError:
        return None
    return sum(shard.rows for shard in shards)
