"""Groups of clips to plan rows, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import join_captions, make_conversations
from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.frame_policy import linspace_table
from weave_data.records import PLAN_SCHEMA
from weave_data.weave.eligible import source_frames_of

__all__ = ["Members", "gather_members", "plan_columns"]


@dataclass(frozen=True)
class Members:
    """The clips of a run of groups, one group after the other.

    `clips` holds clip_id, key, caption, cluster_id and source_frames of m clips; `sizes` int64[g]
    sums to m; `splits` string[g].
    """

    clips: pa.Table
    sizes: npt.NDArray[np.int64]
    splits: pa.Array

    def take(self, order: npt.NDArray[np.int64]) -> Members:
        """These groups in this order."""
        sizes = self.sizes[order]
        starts = (np.cumsum(self.sizes) - self.sizes)[order]
        rows = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        return Members(self.clips.take(pa.array(rows)), sizes, self.splits.take(pa.array(order)))

    @property
    def offsets(self) -> npt.NDArray[np.int32]:
        """Where each group's clips start and the last one's stop: int32[g + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int32)


def gather_members(recipe: RecipeConfig, *, clips: pa.Table, frames: pa.Table, groups: pa.Table) -> Members:
    """Join groups with their clips' key, caption and length.

    Args:
        recipe: L and k.
        clips: CLIP_SCHEMA, any order.
        frames: `clip_id` and `source_frames`.
        groups: GROUP_SCHEMA, `group_index` unique to a group.

    Returns:
        Groups in order of `group_index`, clips in order of `slot`.

    Raises:
        AccountingError: A grouped clip is unknown, too short or in two groups, or a group is larger
            than L or of two splits.
    """
    groups = groups.sort_by([("group_index", "ascending"), ("slot", "ascending")]).combine_chunks()
    rows = pc.index_in(groups["clip_id"], value_set=clips["clip_id"].combine_chunks())
    if rows.null_count:
        raise AccountingError(
            f"{rows.null_count} grouped clips are not in the catalog; the groups belong to another build"
        )
    lengths = source_frames_of(groups["clip_id"], frames)
    members = pa.table(
        {
            "clip_id": groups["clip_id"],
            "key": clips["key"].combine_chunks().take(rows),
            "caption": clips["caption"].combine_chunks().take(rows),
            "cluster_id": groups["cluster_id"],
            "source_frames": lengths,
        }
    )
    shortest = pc.min(lengths).as_py()
    if shortest is not None and shortest < recipe.frames_per_clip:
        raise AccountingError(
            f"a grouped clip has {shortest} frames, recipe {recipe.name} takes {recipe.frames_per_clip}; "
            "group the clips that `eligible_clips` returns"
        )
    starts, sizes = _runs(groups["group_index"].to_numpy())
    _check_groups(recipe, groups, sizes)
    return Members(members.combine_chunks(), sizes, groups["split"].combine_chunks().take(pa.array(starts)))


def plan_columns(members: Members, recipe: RecipeConfig, *, epoch: int) -> dict[str, pa.Array]:
    """Every column of PLAN_SCHEMA but `sample_id`, one row per group."""
    per_clip, offsets = recipe.frames_per_clip, members.offsets
    num_groups, num_clips = len(members.sizes), int(offsets[-1])
    slots = np.arange(num_clips) - np.repeat(offsets[:-1], members.sizes)
    indices = linspace_table(members.clips["source_frames"].to_numpy(), per_clip)
    clip_offsets, frame_offsets = pa.array(offsets), pa.array(offsets * per_clip)
    captions = _column(members.clips, "caption")
    conversations = make_conversations(
        recipe.prompt,
        join_captions(pa.ListArray.from_arrays(clip_offsets, captions), style=recipe.caption_join),
    )
    return {
        "frame_clip": _lists("frame_clip", frame_offsets, np.repeat(slots, per_clip).astype(np.int16)),
        "frame_index": _lists("frame_index", frame_offsets, indices.ravel()),
        "clips": _lists("clips", clip_offsets, _woven_clips(members, per_clip)),
        "conversations": conversations,
        "recipe": _constant(recipe.name, num_groups),
        "strategy": _constant(recipe.strategy, num_groups),
        "split": members.splits,
        "epoch": pa.array(np.full(num_groups, epoch, dtype=np.int32)),
        "num_frames": pa.array((members.sizes * per_clip).astype(np.int32)),
        "text_bytes": _text_bytes(conversations),
    }


def _woven_clips(members: Members, per_clip: int) -> pa.StructArray:
    columns = [_column(members.clips, name) for name in ("clip_id", "key", "caption", "cluster_id")]
    columns.append(pa.array(np.full(members.clips.num_rows, per_clip, dtype=np.int32)))
    return pa.StructArray.from_arrays(columns, fields=list(PLAN_SCHEMA.field("clips").type.value_type))


def _text_bytes(conversations: pa.ListArray) -> pa.Array:
    lengths = pc.binary_length(conversations.flatten().field("value")).to_numpy()
    return pa.array(lengths.reshape(len(conversations), -1).sum(axis=1, dtype=np.int32))


def _lists(name: str, offsets: pa.Array, values: pa.Array | npt.NDArray[np.integer]) -> pa.ListArray:
    items = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.ListArray.from_arrays(offsets, items, type=PLAN_SCHEMA.field(name).type)


def _constant(text: str, num_rows: int) -> pa.Array:
    return pa.array([text]).take(pa.array(np.zeros(num_rows, dtype=np.int64)))


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _runs(group_index: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and length of each run of equal values."""
    if len(group_index) == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(group_index)) + 1])
    return starts, np.diff(starts, append=len(group_index))


def _check_groups(recipe: RecipeConfig, groups: pa.Table, sizes: npt.NDArray[np.int64]) -> None:
    if len(sizes) and sizes.max() > recipe.clips_per_sample:
        raise AccountingError(
            f"a group has {sizes.max()} clips, recipe {recipe.name} weaves {recipe.clips_per_sample}; "
            "group with the recipe's clips_per_sample and number groups through all splits"
        )
    num_mixed = groups.group_by(["group_index", "split"]).aggregate([]).num_rows - len(sizes)
    if num_mixed:
        raise AccountingError(f"{num_mixed} groups mix train and val clips; group each split on its own")
