"""Small catalogs for plans."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster import group_splits, split_of
from weave_data.config import RecipeConfig
from weave_data.records import clips_table
from weave_data.weave import eligible_clips, make_plan, split_portions


def recipe(clips: int = 4, frames: int = 16, **settings) -> RecipeConfig:
    values = {"name": "l4", "strategy": "random" if clips > 1 else "single", **settings}
    return RecipeConfig(clips_per_sample=clips, frames_per_sample=frames, **values)


def catalog(num_clips: int) -> pa.Table:
    ids = [f"c{index:05d}" for index in range(num_clips)]
    return clips_table(
        {
            "clip_id": ids,
            "key": [f"p/{name}.mp4" for name in ids],
            "caption": [f"Füchse, {name}" for name in ids],
            "size_bytes": np.arange(num_clips),
        }
    )


def lengths(num_clips: int, *, shortest: int = 1, longest: int = 60, seed: int = 0) -> pa.Table:
    counts = np.random.default_rng(seed).integers(shortest, longest + 1, num_clips)
    return pa.table(
        {
            "clip_id": catalog(num_clips)["clip_id"],
            "source_frames": pa.array(counts.astype(np.int32)),
            "source_seconds": pa.array(((counts - 1) / 10).astype(np.float32)),
            "part": pa.array([f"part-{index % 2}" for index in range(num_clips)], pa.string()),
        }
    )


def weave(chosen: RecipeConfig, clips: pa.Table, frames: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The plan, the groups and the rejects."""
    eligible, rejects = eligible_clips(clips, frames, recipe=chosen)
    groups = group(chosen, eligible)
    return make_plan(chosen, clips=eligible, frames=frames, groups=groups), groups, rejects


def group(chosen: RecipeConfig, eligible: pa.Table, epoch: int = 0) -> pa.Table:
    """Random groups of every portion, numbered through."""
    clip_ids = eligible["clip_id"].combine_chunks()
    splits = split_of(clip_ids, chosen.split.val_fraction)
    portions = split_portions(clip_ids, splits, chosen.portions, seed=chosen.seed, epoch=epoch)
    tables, num_groups = [], 0
    for index, portion in enumerate(chosen.portions):
        mine = pa.array(np.flatnonzero(portions == index))
        table = group_splits(
            clip_ids.take(mine),
            None,
            splits=splits.take(mine),
            strategy="random" if portion.num_clips > 1 else "single",
            clips_per_group=portion.num_clips,
            seed=chosen.seed,
            epoch=epoch,
            remainder=chosen.remainder,
        ).table
        shifted = pc.add(table["group_index"], num_groups)
        num_groups += pc.count_distinct(table["group_index"]).as_py()
        table = table.set_column(0, table.schema.field("group_index"), shifted)
        label = pa.array(np.full(table.num_rows, index, dtype=np.int16))
        tables.append(table.append_column("portion", label))
    return pa.concat_tables(tables)
