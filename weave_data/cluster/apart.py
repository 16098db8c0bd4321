"""Labels of clips that must not share a group: near duplicates, and clips of one source page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["apart_labels"]


def apart_labels(
    clip_ids: pa.Array | pa.ChunkedArray,
    *,
    duplicates: pa.Table | None = None,
    pages: pa.Array | pa.ChunkedArray | None = None,
) -> npt.NDArray[np.int64]:
    """A number for each clip, equal for clips that must not meet: `labels` of `group_splits`.

    Args:
        clip_ids: string[n], distinct.
        duplicates: clip_id and duplicate_of, as `near_duplicates` gives them; also of other clips.
        pages: string[n], the source page of each clip; "" is no page and keeps nothing apart.

    Returns:
        int64[n] from 0. Where both relations are asked for they are joined: a copy of a clip of a page
        counts as a clip of that page.
    """
    num_clips = len(clip_ids)
    # a node for every clip, then one for every original and every page
    nodes, others, num_nodes = [np.arange(num_clips)], [np.arange(num_clips)], num_clips
    ids = clip_ids.combine_chunks() if isinstance(clip_ids, pa.ChunkedArray) else clip_ids
    if duplicates is not None and len(duplicates):
        place = pc.index_in(ids, value_set=duplicates["clip_id"].combine_chunks())
        originals = duplicates["duplicate_of"].take(place)
        is_original = pc.is_in(ids, value_set=pc.unique(duplicates["duplicate_of"]))
        named = pc.coalesce(originals, pc.if_else(is_original, ids, None))
        num_nodes = _join(named, nodes, others, num_nodes)
    if pages is not None:
        num_nodes = _join(pc.if_else(pc.equal(pages, ""), None, pages), nodes, others, num_nodes)
    ends = (np.concatenate(nodes), np.concatenate(others))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(num_nodes, num_nodes))
    _, found = connected_components(graph, directed=False)
    return np.unique(found[:num_clips], return_inverse=True)[1].astype(np.int64)


def _join(
    names: pa.Array | pa.ChunkedArray,
    nodes: list[npt.NDArray[np.int64]],
    others: list[npt.NDArray[np.int64]],
    num_nodes: int,
) -> int:
    """Link every row that has a name to that name's node; the number of nodes then."""
    flat = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    rows = np.flatnonzero(flat.is_valid().to_numpy(zero_copy_only=False))
    codes = flat.drop_null().dictionary_encode()
    nodes.append(rows)
    others.append(num_nodes + codes.indices.to_numpy().astype(np.int64))
    return num_nodes + len(codes.dictionary)
