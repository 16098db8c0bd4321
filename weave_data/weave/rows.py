"""Groups of clips to plan rows, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.records import PLAN_SCHEMA
from weave_data.weave.eligible import check_distinct, rows_of
from weave_data.weave.frames import frame_indices
from weave_data.weave.texts import sample_turns

__all__ = ["Members", "gather_members", "member_clips", "plan_columns"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Members:
    """The clips of a run of samples, one sample after the other.

    `clips` holds clip_id, key, caption, cluster_id, source_frames and source_seconds of m clips;
    `frame_counts` int64[m] is the k of each; `sizes` int64[g] sums to m; `splits` and `strategies`
    string[g]. `turns` are the samples' own conversations where the source gives them, `record_ids` string[g]
    their own ids (null: none).
    """

    clips: pa.Table
    frame_counts: Integers
    sizes: Integers
    splits: pa.Array
    strategies: pa.Array
    turns: pa.ListArray | None = None
    record_ids: pa.StringArray | None = None

    def take(self, order: Integers) -> Members:
        """These samples in this order."""
        sizes = self.sizes[order]
        starts = (np.cumsum(self.sizes) - self.sizes)[order]
        rows = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
        places = pa.array(order)
        return Members(
            self.clips.take(pa.array(rows)),
            self.frame_counts[rows],
            sizes,
            self.splits.take(places),
            self.strategies.take(places),
            None if self.turns is None else self.turns.take(places),
            None if self.record_ids is None else self.record_ids.take(places),
        )

    @property
    def offsets(self) -> npt.NDArray[np.int32]:
        """Where each sample's clips start and the last one's stop: int32[g + 1]."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int32)


def gather_members(recipe: RecipeConfig, *, clips: pa.Table, frames: pa.Table, groups: pa.Table) -> Members:
    """Join groups with their clips' key, caption and length.

    Args:
        recipe: Its portions say the k of each clip.
        clips: CLIP_SCHEMA, any order.
        frames: `clip_id`, `source_frames` and `source_seconds`.
        groups: GROUP_SCHEMA, `group_index` unique to a group; `portion` where the recipe has several.

    Returns:
        Groups in order of `group_index`, clips in order of `slot`.

    Raises:
        AccountingError: A grouped clip is unknown, too short or in two groups, or a group is larger
            than its portion's L or of two splits.
    """
    groups = groups.sort_by([("group_index", "ascending"), ("slot", "ascending")]).combine_chunks()
    check_distinct(groups["clip_id"], table="clips")
    members = member_clips(groups["clip_id"], groups["cluster_id"], clips=clips, frames=frames)
    starts, sizes = _runs(groups["group_index"].to_numpy())
    portions = _portions_of(groups)
    _check_groups(recipe, groups, sizes, portions[starts])
    table = np.zeros((len(recipe.portions), recipe.max_clips), dtype=np.int64)
    for index, portion in enumerate(recipe.portions):
        table[index, : portion.num_clips] = portion.frames
    counts = table[portions, groups["slot"].to_numpy()]
    _check_lengths(recipe, members["source_frames"], counts)
    names = pa.array([portion.strategy for portion in recipe.portions])
    return Members(
        members.combine_chunks(),
        counts,
        sizes,
        groups["split"].combine_chunks().take(pa.array(starts)),
        names.take(pa.array(portions[starts])),
    )


def member_clips(
    clip_ids: pa.ChunkedArray, cluster_ids: pa.ChunkedArray, *, clips: pa.Table, frames: pa.Table
) -> pa.Table:
    """The columns of `Members.clips` for clips in the order given.

    Raises:
        AccountingError: A clip is not in the catalog or has no row in `frames`.
    """
    rows = pc.index_in(clip_ids, value_set=clips["clip_id"].combine_chunks())
    if rows.null_count:
        raise AccountingError(
            f"{rows.null_count} grouped clips are not in the catalog; the groups belong to another build"
        )
    stored = rows_of(clip_ids, frames)
    return pa.table(
        {
            "clip_id": clip_ids,
            "key": clips["key"].combine_chunks().take(rows),
            "caption": clips["caption"].combine_chunks().take(rows),
            "cluster_id": cluster_ids,
            "source_frames": frames["source_frames"].take(stored),
            "source_seconds": frames["source_seconds"].take(stored),
        }
    )


def plan_columns(
    members: Members, recipe: RecipeConfig, *, epoch: int, frames: pa.Table, prompts: Sequence[str]
) -> dict[str, pa.Array]:
    """Every column of PLAN_SCHEMA but `sample_id`, one row per sample.

    Args:
        members: Whose clips go together.
        recipe: Texts and frame policy.
        epoch: Label of the rows.
        frames: Addresses of the stored frames; read only where a text names times.
        prompts: What the human turn is chosen from.
    """
    offsets, counts = members.offsets, members.frame_counts
    num_samples, num_clips = len(members.sizes), int(offsets[-1])
    slots = np.arange(num_clips) - np.repeat(offsets[:-1], members.sizes)
    indices = frame_indices(recipe, counts, members.clips, epoch=epoch)
    frame_stops = np.concatenate([[0], np.cumsum(counts)])[offsets]
    clip_offsets, frame_offsets = pa.array(offsets), pa.array(frame_stops.astype(np.int32))
    turns = members.turns
    if turns is None:
        turns = sample_turns(members, recipe, indices, epoch=epoch, frames=frames, prompts=prompts)
    return {
        "frame_clip": _lists("frame_clip", frame_offsets, np.repeat(slots, counts).astype(np.int16)),
        "frame_index": _lists("frame_index", frame_offsets, indices),
        "clips": _lists("clips", clip_offsets, _woven_clips(members)),
        "conversations": turns,
        "recipe": _constant(recipe.name, num_samples),
        "strategy": members.strategies,
        "split": members.splits,
        "epoch": pa.array(np.full(num_samples, epoch, dtype=np.int32)),
        "num_frames": pa.array(np.diff(frame_stops).astype(np.int32)),
        "text_bytes": _text_bytes(turns),
        "record_id": pa.nulls(num_samples, pa.string()) if members.record_ids is None else members.record_ids,
    }


def _woven_clips(members: Members) -> pa.StructArray:
    columns = [_column(members.clips, name) for name in ("clip_id", "key", "caption", "cluster_id")]
    columns.append(pa.array(members.frame_counts.astype(np.int32)))
    return pa.StructArray.from_arrays(columns, fields=list(PLAN_SCHEMA.field("clips").type.value_type))


def _text_bytes(turns: pa.ListArray) -> pa.Array:
    lengths = pc.binary_length(turns.flatten().field("value")).to_numpy()
    stops = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    sizes = turns.value_lengths().to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    return pa.array((stops[ends] - stops[ends - sizes]).astype(np.int32))


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


def _portions_of(groups: pa.Table) -> npt.NDArray[np.int16]:
    if "portion" in groups.column_names:
        return groups["portion"].to_numpy()
    return np.zeros(groups.num_rows, dtype=np.int16)


def _check_groups(
    recipe: RecipeConfig, groups: pa.Table, sizes: Integers, portions: npt.NDArray[np.int16]
) -> None:
    allowed = np.array([portion.num_clips for portion in recipe.portions])[portions]
    if np.any(sizes > allowed):
        worst = int(np.argmax(sizes - allowed))
        raise AccountingError(
            f"a group has {sizes[worst]} clips, recipe {recipe.name} weaves {allowed[worst]}; "
            "group with the recipe's clips_per_sample and number groups through all splits"
        )
    num_mixed = groups.group_by(["group_index", "split"]).aggregate([]).num_rows - len(sizes)
    if num_mixed:
        raise AccountingError(f"{num_mixed} groups mix train and val clips; group each split on its own")


def _check_lengths(recipe: RecipeConfig, lengths: pa.ChunkedArray, counts: Integers) -> None:
    if recipe.short_clips != "reject" or not len(counts):
        return
    missing = counts - lengths.to_numpy()
    if missing.max() > 0:
        worst = int(np.argmax(missing))
        raise AccountingError(
            f"a grouped clip has {lengths[worst].as_py()} frames, recipe {recipe.name} takes "
            f"{counts[worst]}; group the clips that `eligible_clips` returns"
        )
