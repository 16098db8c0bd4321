"""Clips that are copies of each other, in bytes or in looks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from weave_data.quality.reasons import FilterReason
from weave_data.quality.rejects import filter_rejects
from weave_data.records import StageCount

__all__ = ["drop_near_duplicates", "duplicate_labels"]

STAGE = "near_duplicates"


def drop_near_duplicates(clips: pa.Table, duplicates: pa.Table) -> tuple[pa.Table, pa.Table, StageCount]:
    """Keep one clip of those that look alike: the first by clip id that is there.

    Args:
        clips: CLIP_SCHEMA; those of them that have no row in `duplicates` are kept.
        duplicates: clip_id, duplicate_of (the same for all clips that look alike), cosine (to that clip);
            clips that are not in `clips` are left out of account.

    Returns:
        The clips kept, in their order; REJECT_SCHEMA of the others (stage `near_duplicates`, every
        recipe); their count.
    """
    ids = clips["clip_id"].combine_chunks()
    place = pc.index_in(ids, value_set=duplicates["clip_id"].combine_chunks())
    member = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
    found = duplicates.take(place.drop_null())
    # a component's name may itself be one of its clips without a row of its own
    names = pc.unique(duplicates["duplicate_of"])
    of = pc.coalesce(
        duplicates["duplicate_of"].take(place), pc.if_else(pc.is_in(ids, value_set=names), ids, None)
    )
    labelled = np.flatnonzero(pc.is_valid(of).to_numpy())
    kept = _first_of_each(ids.take(pa.array(labelled)), of.drop_null())
    keeper = np.full(len(ids), -1, np.int64)
    keeper[labelled] = labelled[kept]
    goes = member[keeper[member] != member]
    told = found.filter(pa.array(keeper[member] != member))
    details = pc.binary_join_element_wise(
        "looks like clip ",
        told["duplicate_of"],
        " (cosine ",
        pc.cast(pc.round(pc.cast(told["cosine"], pa.float64()), ndigits=4), pa.string()),
        "); kept: clip ",
        ids.take(pa.array(keeper[goes])),
        "",
    )
    rejects = filter_rejects(clips, goes, FilterReason.NEAR_DUPLICATE, details, stage=STAGE)
    is_kept = np.ones(len(clips), np.bool_)
    is_kept[goes] = False
    filtered = {FilterReason.NEAR_DUPLICATE.value: len(goes)} if len(goes) else {}
    count = StageCount(STAGE, len(clips), len(clips) - len(goes), filtered)
    return clips.filter(pa.array(is_kept)), rejects.sort_by("clip_id"), count


def duplicate_labels(
    clip_ids: pa.Array | pa.ChunkedArray,
    *,
    duplicates: pa.Table | None = None,
    quality: pa.Table | None = None,
) -> npt.NDArray[np.int64]:
    """A number for each clip, equal for clips that are copies of each other.

    Args:
        clip_ids: string[n], each once.
        duplicates: clip_id, duplicate_of: clips that look alike.
        quality: QUALITY_SCHEMA of at least these clips: equal `sha256` are copies too.

    Returns:
        int64[n] from 0; a clip without copies has a number of its own. Chains count: a copy of a copy.
    """
    ids = clip_ids.combine_chunks() if isinstance(clip_ids, pa.ChunkedArray) else clip_ids
    num_clips = len(ids)
    edges: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    num_nodes = num_clips
    for table, key, group in ((duplicates, "clip_id", "duplicate_of"), (quality, "clip_id", "sha256")):
        if table is None or not len(table):
            continue
        # one node for each group: clips whose first member is not among `ids` still belong together
        codes = table[group].combine_chunks().dictionary_encode()
        rows = pc.index_in(table[key], value_set=ids)
        is_there = pc.is_valid(rows).to_numpy()
        clip_nodes = rows.drop_null().to_numpy().astype(np.int64)
        edges.append((clip_nodes, num_nodes + codes.indices.to_numpy()[is_there].astype(np.int64)))
        if group == "duplicate_of":
            firsts = pc.index_in(codes.dictionary, value_set=ids)
            has_first = np.flatnonzero(pc.is_valid(firsts).to_numpy(zero_copy_only=False))
            edges.append((firsts.drop_null().to_numpy().astype(np.int64), num_nodes + has_first))
        num_nodes += len(codes.dictionary)
    if not edges:
        return np.arange(num_clips)
    ends = [np.concatenate(side) for side in zip(*edges, strict=True)]
    graph = coo_array((np.ones(len(ends[0]), np.int8), (ends[0], ends[1])), shape=(num_nodes, num_nodes))
    _, labels = connected_components(graph, directed=False)
    return np.unique(labels[:num_clips], return_inverse=True)[1].astype(np.int64)


def _first_of_each(ids: pa.Array, labels: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """For each row, the row of the smallest id with its label."""
    codes = labels.combine_chunks().dictionary_encode().indices.to_numpy()
    order = pc.sort_indices(ids).to_numpy()
    _, first, inverse = np.unique(codes[order], return_index=True, return_inverse=True)
    kept = np.empty(len(codes), np.int64)
    kept[order] = order[first[inverse]]
    return kept
