"""Clips that look alike: pairs above a cosine, joined into components.

Comparing every pair of a million clips is out of reach, so a clip visits its own cluster and those of
the seven next nearest centroids that are at most t = acos(min_cosine) farther, as an angle, than its own.
A pair within t is missed when neither clip visits the other's cluster: when several more clusters are
about as near, or when the clips differ by a step straight from one centroid to the other (the triangle
inequality alone would allow 2t).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from weave_data.cluster.centroids import nearest_centroids, train_centroids
from weave_data.cluster.cosines import Quantized, UnitRows
from weave_data.errors import ConfigError, VerificationError
from weave_data.keyed_hash import keyed_ranks

__all__ = ["DUPLICATE_SCHEMA", "near_duplicates"]

DUPLICATE_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("duplicate_of", pa.string(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
    ]
)

_PROBES = 8
_CLUSTER_ROWS = 512
_SLACK_RADIANS = 0.01  # angles of quantised vectors and centroids are off by less
_BLOCK_ROWS = 2048
_MAX_EDGES = 1 << 22

Rows = npt.NDArray[np.int64]


def near_duplicates(
    clip_ids: pa.Array | pa.ChunkedArray, vectors: npt.NDArray[np.floating], *, min_cosine: float
) -> pa.Table:
    """Find clips that look like another one, directly or through others.

    Cosines are those of vectors rounded to 1/4000 (off by about 1e-4), so equal vectors have cosine 1
    and the same clusters give the same pairs on any machine.

    Args:
        clip_ids: string[n], distinct, any order.
        vectors: float16 or float32[n, dim] of unit length, in the order of `clip_ids`; may be
            memory-mapped.
        min_cosine: Within (0, 1]: clips at least as similar are linked.

    Returns:
        A row for every clip but the first of each component of two or more, by clip id: `clip_id`,
        `duplicate_of` (the component's first clip id) and `cosine` float32 between the two, which is
        below `min_cosine` where clips between them link them.

    Raises:
        ConfigError: `min_cosine` is out of range.
        VerificationError: Not one unit vector per clip.
    """
    if not 0 < min_cosine <= 1:
        raise ConfigError(f"near_duplicates {min_cosine}: a cosine within (0, 1], 0.95 for a start")
    if vectors.ndim != 2 or len(vectors) != len(clip_ids):
        raise VerificationError(
            f"near duplicates need one vector for each of {len(clip_ids)} clips, got shape {vectors.shape}; "
            "embed the clips first"
        )
    if len(clip_ids) < 2:
        return DUPLICATE_SCHEMA.empty_table()
    clip_ids = clip_ids.combine_chunks() if isinstance(clip_ids, pa.ChunkedArray) else clip_ids
    order = pc.sort_indices(clip_ids)
    clip_ids = clip_ids.take(order)
    rows = UnitRows(vectors, order.to_numpy().astype(np.int64))
    first = _components(rows, keyed_ranks(clip_ids, key="duplicates"), min_cosine)
    copies = np.flatnonzero(first != np.arange(len(first)))
    columns = [clip_ids.take(pa.array(copies)), clip_ids.take(pa.array(first[copies]))]
    cosines = _pair_cosines(rows, copies, first[copies])
    return pa.Table.from_arrays([*columns, pa.array(cosines)], schema=DUPLICATE_SCHEMA)


def _components(rows: UnitRows, ranks: Rows, min_cosine: float) -> Rows:
    """First row of each row's component: int64[n]."""
    first = np.arange(len(rows))
    for left, right in _batches(_links(rows, ranks, min_cosine)):
        ends = (np.concatenate([left, first]), np.concatenate([right, np.arange(len(rows))]))
        graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(len(rows), len(rows)))
        _, labels = connected_components(graph, directed=False)
        first = np.unique(labels, return_index=True)[1][labels]
    return first


def _links(rows: UnitRows, ranks: Rows, min_cosine: float) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of rows at least as similar as asked, block by block."""
    centroids = train_centroids(rows, ranks, seed=0, rows_per_cluster=_CLUSTER_ROWS)
    probes, cosines = nearest_centroids(rows, centroids, min(_PROBES, len(centroids)))
    angles = np.arccos(np.clip(cosines, -1, 1))
    reach = math.acos(min_cosine) + _SLACK_RADIANS
    visits = angles <= angles[:, :1] + reach
    clusters, visitors = probes[visits], np.nonzero(visits)[0]
    order = np.argsort(clusters, kind="stable")
    visitor_stops = np.cumsum(np.bincount(clusters, minlength=len(centroids)))
    homes = np.argsort(probes[:, 0], kind="stable")
    home_stops = np.cumsum(np.bincount(probes[:, 0], minlength=len(centroids)))
    of_cluster = zip(
        np.split(homes, home_stops[:-1]), np.split(visitors[order], visitor_stops[:-1]), strict=True
    )
    for members, guests in of_cluster:
        for part in _parts(members):
            at_home = rows.take(part)
            for other in _parts(guests):
                near = _similar(rows.take(other), at_home, min_cosine)
                yield _forest(other, part, near)


def _similar(left: Quantized, right: Quantized, min_cosine: float) -> tuple[Rows, Rows]:
    products, lefts, rights = left @ right.T, _squares(left), _squares(right)
    # nearly every pair is far below: a bound for the shortest row of the left rules those out cheaply
    bounds = np.sqrt(rights) * (math.sqrt(lefts.min()) * min_cosine * (1 - 1e-6))
    rows, columns = np.divmod(np.flatnonzero(products >= bounds.astype(np.float32)), len(right))
    is_near = products[rows, columns] >= min_cosine * np.sqrt(lefts[rows] * rights[columns])
    return rows[is_near], columns[is_near]


def _forest(left: Rows, right: Rows, near: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    """Pairs that join what the near pairs join, at most one for each row: many equal clips stay few pairs."""
    rows = np.concatenate([left, right])
    ends = (near[0], len(left) + near[1])
    graph = coo_array((np.ones(len(near[0]), np.int8), ends), shape=(len(rows), len(rows)))
    _, labels = connected_components(graph, directed=False)
    first = np.unique(labels, return_index=True)[1][labels]
    return rows, rows[first]


def _squares(quantized: Quantized) -> npt.NDArray[np.float64]:
    return np.einsum("nd,nd->n", quantized, quantized).astype(np.float64)


def _pair_cosines(rows: UnitRows, left: Rows, right: Rows) -> npt.NDArray[np.float32]:
    cosines = np.empty(len(left), dtype=np.float32)
    for start in range(0, len(left), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        a, b = rows.take(left[block]), rows.take(right[block])
        cosines[block] = np.einsum("nd,nd->n", a, b) / np.sqrt(_squares(a) * _squares(b))
    return cosines


def _batches(links: Iterator[tuple[Rows, Rows]]) -> Iterator[tuple[Rows, Rows]]:
    """The same pairs, a few million at a time, those of a row with itself left out."""
    held: list[tuple[Rows, Rows]] = []
    num_held = 0
    for left, right in links:
        is_pair = left != right
        held.append((left[is_pair], right[is_pair]))
        num_held += len(held[-1][0])
        if num_held >= _MAX_EDGES:
            yield np.concatenate([pair[0] for pair in held]), np.concatenate([pair[1] for pair in held])
            held, num_held = [], 0
    if num_held:
        yield np.concatenate([pair[0] for pair in held]), np.concatenate([pair[1] for pair in held])


def _parts(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]
