"""The whole plan of a recipe, in shard order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.records import PLAN_SCHEMA, StageCount
from weave_data.weave.identity import identify, shard_order
from weave_data.weave.rows import Members, gather_members, plan_columns

__all__ = ["count_woven", "make_plan", "plan_members"]

_BLOCK_GROUPS = 65_536  # bounds memory, and the text of a block below 2 GiB of offsets


def make_plan(
    recipe: RecipeConfig,
    *,
    clips: pa.Table,
    frames: pa.Table,
    groups: pa.Table,
    epoch: int = 0,
    prompts: Sequence[str] | None = None,
) -> pa.Table:
    """Compose every sample of a recipe; no pixel is read.

    Rows are built twice, block by block: once for their ids, which decide the order, and once in
    that order. That is cheaper than permuting nested columns, which needs all of them in memory
    twice.

    Args:
        recipe: Frames, prompt, caption join and seed.
        clips: CLIP_SCHEMA; clips in no group are left out.
        frames: `clip_id`, `source_frames` and `source_seconds` of decoded clips; their addresses where
            the caption join names times.
        groups: GROUP_SCHEMA, `group_index` unique to a group (as `cluster.group_splits` numbers them),
            and `portion` where the recipe has several.
        epoch: Label of the rows; another epoch has other groups.
        prompts: What the human turn is chosen from; by default the recipe's one prompt.

    Returns:
        PLAN_SCHEMA, a pure function of the arguments' rows in whatever order they come.

    Raises:
        AccountingError: Groups, clips and frames do not fit together.
    """
    members = gather_members(recipe, clips=clips, frames=frames, groups=groups)
    return plan_members(recipe, members, frames=frames, epoch=epoch, prompts=prompts)


def plan_members(
    recipe: RecipeConfig,
    members: Members,
    *,
    frames: pa.Table,
    epoch: int,
    prompts: Sequence[str] | None = None,
) -> pa.Table:
    """`make_plan` of members already gathered."""
    columns_of = partial(
        plan_columns, recipe=recipe, epoch=epoch, frames=frames, prompts=prompts or (recipe.prompt,)
    )
    found = [identify(columns_of(block)) for block in _blocks(members)]
    sample_ids = pa.concat_arrays(found) if found else pa.array([], pa.string())
    order = shard_order(sample_ids, members.splits, seed=recipe.seed)
    batches = []
    for part in _parts(order):
        columns = columns_of(members.take(part))
        columns["sample_id"] = sample_ids.take(pa.array(part))
        batches.append(pa.record_batch([columns[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA))
    return pa.Table.from_batches(batches, schema=PLAN_SCHEMA)


def count_woven(
    recipe: RecipeConfig,
    *,
    num_clips: int,
    rejects: pa.Table,
    groups: pa.Table,
    num_outside: Mapping[str, int] | None = None,
    num_apart: int = 0,
) -> StageCount:
    """Account for the clips of one epoch of a recipe.

    Args:
        recipe: Tells how many clips may be left over.
        num_clips: Decoded clips that came in.
        rejects: Those that the recipe refused: too short, or without the caption it wants.
        groups: Those that are grouped.
        num_outside: Clips that were not to be grouped, by reason.
        num_apart: Clips that grouping may leave out because they must not share a sample.

    Returns:
        Clips in, clips woven, the remainder of grouping and the rejects by reason.

    Raises:
        AccountingError: More clips are missing than grouping may leave over: L - 1 in each split and
            portion, none with `remainder: keep`.
    """
    outside = dict(num_outside or {})
    remainder = num_clips - rejects.num_rows - groups.num_rows - sum(outside.values())
    allowed = 2 * sum(portion.num_clips - 1 for portion in recipe.portions)
    limit = (0 if recipe.remainder == "keep" else allowed) + num_apart
    if not 0 <= remainder <= limit:
        raise AccountingError(
            f"recipe {recipe.name}: {num_clips} clips in, {rejects.num_rows} rejected, {groups.num_rows} "
            f"grouped: {remainder} left over, at most {limit} can be; delete this recipe's groups and rebuild"
        )
    filtered = {"remainder": remainder, **outside}
    return StageCount(
        stage=f"weave {recipe.name}",
        num_in=num_clips,
        num_out=groups.num_rows,
        filtered={name: number for name, number in filtered.items() if number},
        rejected=dict(sorted(Counter(rejects["reason"].to_pylist()).items())),
    )


def _blocks(members: Members) -> Iterator[Members]:
    for part in _parts(np.arange(len(members.sizes))):
        yield members.take(part)


def _parts(order: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(order), _BLOCK_GROUPS):
        yield order[start : start + _BLOCK_GROUPS]
