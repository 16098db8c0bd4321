"""Small catalogs for plans."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from weave_data.cluster import group_splits
from weave_data.config import RecipeConfig
from weave_data.records import clips_table
from weave_data.weave import eligible_clips, make_plan


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
            "part": pa.array([f"part-{index % 2}" for index in range(num_clips)], pa.string()),
        }
    )


def weave(chosen: RecipeConfig, clips: pa.Table, frames: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The plan, the groups and the rejects."""
    eligible, rejects = eligible_clips(clips, frames, recipe=chosen)
    groups = group_splits(
        eligible["clip_id"],
        None,
        strategy=chosen.strategy,
        clips_per_group=chosen.clips_per_sample,
        seed=chosen.seed,
        remainder=chosen.remainder,
        val_fraction=chosen.split.val_fraction,
    ).table
    return make_plan(chosen, clips=eligible, frames=frames, groups=groups), groups, rejects
