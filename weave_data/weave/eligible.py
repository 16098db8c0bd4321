"""Which clips a recipe can use: never fewer frames than it asks for, never one twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.records import RejectReason, rejects_table
from weave_data.weave.frames import recipe_ask

__all__ = ["check_distinct", "eligible_clips", "rows_of"]

_ROUNDING = 1e-3  # of a frame step: a clip that ends on its last frame is long enough


def eligible_clips(clips: pa.Table, frames: pa.Table, *, recipe: RecipeConfig) -> tuple[pa.Table, pa.Table]:
    """Split clips into those with the recipe's k frames and rejects.

    Called before grouping, so that a short clip costs itself and not its group.

    Args:
        clips: CLIP_SCHEMA; every clip must have a row in `frames`.
        frames: `clip_id`, `source_frames` (n, presented frames) and `source_seconds` of decoded clips,
            any order, and `part` where rejects shall name it.
        recipe: Asks for k frames of each clip, the largest k where clips differ.

    Returns:
        The clips with k distinct frames in their order (all of them where the recipe repeats the last
        frame of short clips), and REJECT_SCHEMA of the others (`too_short`).

    Raises:
        AccountingError: A clip has no row in `frames`, or a clip id appears twice in either table.

    Source:
        VideoWeave repeats frames of a short video. Differs: it is rejected and counted, unless
        `short_clips: repeat-last` is written out.
    """
    check_distinct(clips["clip_id"], table="clips")
    # only these columns: the address lists of a large build stay on disk
    needed = [name for name in ("source_frames", "source_seconds", "part") if name in frames.column_names]
    stored = frames.select(needed).take(rows_of(clips["clip_id"], frames))
    has_enough = _has_enough(recipe, stored)
    is_short = pc.invert(has_enough)
    parts = stored["part"].filter(is_short).to_pylist() if "part" in stored.column_names else None
    refused = clips.filter(is_short)
    rejects = _rejects(recipe, refused.to_pylist(), stored.filter(is_short), parts)
    return clips.filter(has_enough), rejects


def _has_enough(recipe: RecipeConfig, stored: pa.Table) -> pa.Array:
    """bool[m]: the clip can give the recipe's frames, none of them twice."""
    lengths = stored["source_frames"].to_numpy()
    if recipe.short_clips == "repeat-last":
        return pa.array(lengths >= 1)
    largest = max(recipe.clip_frame_counts)
    enough = lengths >= largest
    if recipe.fps is not None:
        seconds = stored["source_seconds"].to_numpy()
        enough &= seconds * recipe.fps > largest - 1 - _ROUNDING
        rows = np.flatnonzero(enough)
        table = recipe_ask(recipe, largest).table(lengths[rows], seconds[rows])
        enough[rows] = (np.diff(table, axis=1) > 0).all(axis=1)
    return pa.array(enough)


def _rejects(
    recipe: RecipeConfig,
    clips: Sequence[dict[str, str]],
    stored: pa.Table,
    parts: Sequence[str] | None,
) -> pa.Table:
    """One row per short clip; there are few of them, so plain rows are fine."""
    largest = max(recipe.clip_frame_counts)
    speed = f" {1 / recipe.fps:g} s apart" if recipe.fps else ""
    lengths = stored["source_frames"].to_pylist()
    rows = [
        {
            "stage": "weave",
            "part": parts[index] if parts else "",
            "recipe": recipe.name,
            "clip_id": clip["clip_id"],
            "key": clip["key"],
            "reason": RejectReason.TOO_SHORT.value,
            "detail": f"asked for {largest} frames{speed}, the video has {length}; "
            f"lower recipes.{recipe.name}.frames_per_sample or set short_clips: repeat-last",
        }
        for index, (clip, length) in enumerate(zip(clips, lengths, strict=True))
    ]
    return rejects_table(rows)


def rows_of(clip_ids: pa.ChunkedArray, frames: pa.Table) -> pa.ChunkedArray:
    """Row of each clip in `frames`: int32, in the order of `clip_ids`.

    Raises:
        AccountingError: As `eligible_clips`.
    """
    check_distinct(frames["clip_id"], table="frames")
    rows = pc.index_in(clip_ids, value_set=frames["clip_id"])
    if rows.null_count:
        lost = clip_ids.filter(pc.is_null(rows))[0].as_py()
        raise AccountingError(
            f"clip {lost}: neither decoded nor rejected, as {rows.null_count - 1} others; "
            "pass only clips with stored frames"
        )
    return rows


def check_distinct(clip_ids: pa.ChunkedArray, *, table: str) -> None:
    """Refuse a table that names a clip twice.

    Raises:
        AccountingError: It does.
    """
    num_repeats = len(clip_ids) - pc.count_distinct(clip_ids).as_py()
    if num_repeats:
        raise AccountingError(
            f"{num_repeats} rows of the {table} table repeat a clip id; drop duplicates in the catalog"
        )
