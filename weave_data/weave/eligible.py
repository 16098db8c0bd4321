"""Which clips a recipe can use: never fewer frames than it asks for, never one twice."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.records import RejectReason, rejects_table

__all__ = ["eligible_clips", "source_frames_of"]


def eligible_clips(clips: pa.Table, frames: pa.Table, *, recipe: RecipeConfig) -> tuple[pa.Table, pa.Table]:
    """Split clips into those with the recipe's k frames and rejects.

    Called before grouping, so that a short clip costs itself and not its group.

    Args:
        clips: CLIP_SCHEMA; every clip must have a row in `frames`.
        frames: `clip_id` and `source_frames` (n, presented frames) of decoded clips, any order, and
            `part` where rejects shall name it.
        recipe: Asks for k = T / L frames of each clip.

    Returns:
        The clips with n >= k in their order, and REJECT_SCHEMA of the others (`too_short`).

    Raises:
        AccountingError: A clip has no row in `frames`, or a clip id appears twice in either table.

    Source:
        VideoWeave repeats frames of a short video. Differs: it is rejected and counted.
    """
    rows = _rows_of(clips["clip_id"], frames)
    lengths = frames["source_frames"].take(rows)
    is_long = pc.greater_equal(lengths, recipe.frames_per_clip)
    is_short = pc.invert(is_long)
    has_parts = "part" in frames.column_names
    parts = frames["part"].take(rows).filter(is_short).to_pylist() if has_parts else None
    refused = clips.filter(is_short)
    rejects = _rejects(recipe, refused.to_pylist(), lengths.filter(is_short).to_pylist(), parts)
    return clips.filter(is_long), rejects


def source_frames_of(clip_ids: pa.ChunkedArray, frames: pa.Table) -> pa.ChunkedArray:
    """n of each clip: int32, in the order of `clip_ids`.

    Raises:
        AccountingError: As `eligible_clips`.
    """
    return frames["source_frames"].take(_rows_of(clip_ids, frames))


def _rejects(
    recipe: RecipeConfig,
    clips: Sequence[dict[str, str]],
    lengths: Sequence[int],
    parts: Sequence[str] | None,
) -> pa.Table:
    """One row per short clip; there are few of them, so plain rows are fine."""
    rows = [
        {
            "stage": "weave",
            "part": parts[index] if parts else "",
            "recipe": recipe.name,
            "clip_id": clip["clip_id"],
            "key": clip["key"],
            "reason": RejectReason.TOO_SHORT.value,
            "detail": f"asked for {recipe.frames_per_clip} frames, the video has {length}; "
            f"lower recipes.{recipe.name}.frames_per_sample",
        }
        for index, (clip, length) in enumerate(zip(clips, lengths, strict=True))
    ]
    return rejects_table(rows)


def _rows_of(clip_ids: pa.ChunkedArray, frames: pa.Table) -> pa.ChunkedArray:
    for name, column in (("clips", clip_ids), ("frames", frames["clip_id"])):
        num_repeats = len(column) - pc.count_distinct(column).as_py()
        if num_repeats:
            raise AccountingError(
                f"{num_repeats} rows of the {name} table repeat a clip id; drop duplicates in the catalog"
            )
    rows = pc.index_in(clip_ids, value_set=frames["clip_id"].combine_chunks())
    if rows.null_count:
        lost = clip_ids.filter(pc.is_null(rows))[0].as_py()
        raise AccountingError(
            f"clip {lost}: neither decoded nor rejected, as {rows.null_count - 1} others; "
            "pass only clips with stored frames"
        )
    return rows
