"""Samples that the source gives ready made: their own clips and their own conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import RecipeConfig
from weave_data.records import RejectReason, StageCount, rejects_table
from weave_data.weave.eligible import eligible_clips
from weave_data.weave.rows import Members, member_clips

__all__ = ["GivenSamples", "given_samples", "split_keys"]

_UNCLUSTERED = -1


class GivenSamples(NamedTuple):
    """What is left of a source's samples. `sample_keys` string[g], in order of `members`."""

    members: Members
    sample_keys: pa.Array
    rejects: pa.Table
    balance: StageCount


def split_keys(samples: pa.Table) -> pa.Array:
    """What decides a sample's split: its first clip, or its own key where it has none. string[n]."""
    lists = samples["clip_ids"].combine_chunks()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    starts = np.cumsum(sizes) - sizes
    places = pa.array(starts, mask=sizes == 0)
    return pc.coalesce(lists.flatten().take(places), samples["sample_key"].combine_chunks())


def given_samples(
    recipe: RecipeConfig, samples: pa.Table, splits: pa.Array, *, clips: pa.Table, frames: pa.Table
) -> GivenSamples:
    """Join samples with their clips; one that lacks a clip is refused whole.

    An image gives its one frame, a video the recipe's k.

    Args:
        recipe: Strategy `given`.
        samples: SAMPLE_SCHEMA, in source order.
        splits: string[n].
        clips: CLIP_SCHEMA of clips with stored frames.
        frames: Their `clip_id`, `source_frames`, `source_seconds`.

    Raises:
        AccountingError: A clip without a row in `frames`.
    """
    is_video = pc.equal(clips["media"], "video")
    videos, short = eligible_clips(clips.filter(is_video), frames, recipe=recipe)
    usable = pa.concat_tables([clips.filter(pc.invert(is_video)), videos])
    lists = samples["clip_ids"].combine_chunks()
    flat = lists.flatten()
    places = pc.index_in(flat, value_set=usable["clip_id"].combine_chunks())
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    is_lost = places.is_null().to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    is_whole = np.bincount(owner[is_lost], minlength=len(sizes)) == 0
    kept = samples.filter(pa.array(is_whole))
    rejects = _rejects(recipe, samples, flat, owner, is_lost, short)
    count = StageCount(
        stage=f"weave {recipe.name}",
        num_in=samples.num_rows,
        num_out=kept.num_rows,
        rejected={RejectReason.CLIP_REJECTED.value: rejects.num_rows} if rejects.num_rows else {},
    )
    members = _members(recipe, kept, splits.filter(pa.array(is_whole)), clips=usable, frames=frames)
    return GivenSamples(members, kept["sample_key"].combine_chunks(), rejects, count)


def _members(
    recipe: RecipeConfig, samples: pa.Table, splits: pa.Array, *, clips: pa.Table, frames: pa.Table
) -> Members:
    lists = samples["clip_ids"].combine_chunks()
    clip_ids = pa.chunked_array([lists.flatten()])
    clusters = pa.chunked_array([pa.array(np.full(len(clip_ids), _UNCLUSTERED, dtype=np.int32))])
    table = member_clips(clip_ids, clusters, clips=clips, frames=frames)
    media = clips["media"].take(pc.index_in(clip_ids, value_set=clips["clip_id"].combine_chunks()))
    per_video = recipe.portions[0].frames[0]
    counts = np.where(pc.equal(media, "image").to_numpy(), 1, per_video).astype(np.int64)
    strategies = pa.array(["given"]).take(pa.array(np.zeros(samples.num_rows, dtype=np.int64)))
    sizes: npt.NDArray[np.int64] = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    turns = samples["conversations"].combine_chunks()
    record_ids = samples["record_id"].combine_chunks()
    return Members(table.combine_chunks(), counts, sizes, splits, strategies, turns, record_ids)


def _rejects(
    recipe: RecipeConfig,
    samples: pa.Table,
    flat: pa.Array,
    owner: npt.NDArray[np.int64],
    is_lost: npt.NDArray[np.bool_],
    short: pa.Table,
) -> pa.Table:
    """One row per sample that lacks a clip; it names the first one."""
    lost = np.flatnonzero(is_lost)
    _, first = np.unique(owner[lost], return_index=True)
    keys = samples["sample_key"].take(pa.array(owner[lost[first]])).to_pylist()
    clip_ids: Sequence[str] = flat.take(pa.array(lost[first])).to_pylist()
    why = dict(zip(short["clip_id"].to_pylist(), short["detail"].to_pylist(), strict=True))
    rows = [
        {
            "stage": "weave",
            "part": "",
            "recipe": recipe.name,
            "clip_id": sample_key,
            "key": clip_id,
            "reason": RejectReason.CLIP_REJECTED.value,
            "detail": why.get(clip_id, "refused earlier; see its own reject"),
        }
        for sample_key, clip_id in zip(keys, clip_ids, strict=True)
    ]
    return rejects_table(rows)
