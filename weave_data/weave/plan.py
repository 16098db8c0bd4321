"""The whole plan of a recipe, in shard order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.records import PLAN_SCHEMA, RejectReason, StageCount
from weave_data.weave.identity import identify, shard_order
from weave_data.weave.rows import Members, gather_members, plan_columns

__all__ = ["count_woven", "make_plan"]

_BLOCK_GROUPS = 65_536  # bounds memory, and the text of a block below 2 GiB of offsets


def make_plan(
    recipe: RecipeConfig, *, clips: pa.Table, frames: pa.Table, groups: pa.Table, epoch: int = 0
) -> pa.Table:
    """Compose every sample of a recipe; no pixel is read.

    Rows are built twice, block by block: once for their ids, which decide the order, and once in
    that order. That is cheaper than permuting nested columns, which needs all of them in memory
    twice.

    Args:
        recipe: Frames, prompt, caption join and seed.
        clips: CLIP_SCHEMA; clips in no group are left out.
        frames: `clip_id` and `source_frames` of decoded clips.
        groups: GROUP_SCHEMA, `group_index` unique to a group (as `cluster.group_splits` numbers them).
        epoch: Label of the rows; the groups of another epoch come from another seed.

    Returns:
        PLAN_SCHEMA, a pure function of the arguments' rows in whatever order they come.

    Raises:
        AccountingError: Groups, clips and frames do not fit together.
    """
    members = gather_members(recipe, clips=clips, frames=frames, groups=groups)
    found = [identify(plan_columns(block, recipe, epoch=epoch)) for block in _blocks(members)]
    sample_ids = pa.concat_arrays(found) if found else pa.array([], pa.string())
    order = shard_order(sample_ids, members.splits, seed=recipe.seed)
    batches = []
    for part in _parts(order):
        columns = plan_columns(members.take(part), recipe, epoch=epoch)
        columns["sample_id"] = sample_ids.take(pa.array(part))
        batches.append(pa.record_batch([columns[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA))
    return pa.Table.from_batches(batches, schema=PLAN_SCHEMA)


def count_woven(recipe: RecipeConfig, *, num_clips: int, rejects: pa.Table, groups: pa.Table) -> StageCount:
    """Account for the clips of one recipe.

    Args:
        recipe: Tells how many clips may be left over.
        num_clips: Decoded clips that came in.
        rejects: Those that `eligible_clips` refused.
        groups: Those that are woven.

    Returns:
        Clips in, clips woven, the remainder of grouping and the rejects by reason.

    Raises:
        AccountingError: More clips are missing than grouping may leave over: L - 1 in each split, none
            with `remainder: keep`.
    """
    remainder = num_clips - rejects.num_rows - groups.num_rows
    limit = 0 if recipe.remainder == "keep" else 2 * (recipe.clips_per_sample - 1)
    if not 0 <= remainder <= limit:
        raise AccountingError(
            f"recipe {recipe.name}: {num_clips} clips in, {rejects.num_rows} rejected, {groups.num_rows} "
            f"grouped: {remainder} left over, at most {limit} can be; delete this recipe's groups and rebuild"
        )
    return StageCount(
        stage=f"weave {recipe.name}",
        num_in=num_clips,
        num_out=groups.num_rows,
        filtered={"remainder": remainder} if remainder else {},
        rejected={RejectReason.TOO_SHORT.value: rejects.num_rows} if rejects.num_rows else {},
    )


def _blocks(members: Members) -> Iterator[Members]:
    for part in _parts(np.arange(len(members.sizes))):
        yield members.take(part)


def _parts(order: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(order), _BLOCK_GROUPS):
        yield order[start : start + _BLOCK_GROUPS]
