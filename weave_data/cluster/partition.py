"""Rows to buckets of at most 2048: neighbouring clusters share one, large clusters are bisected.

Groups are formed within a bucket, so a bucket should not cut through what belongs together: clusters
are small (256 rows, see `centroids`) and neighbouring ones are packed together, which at 20,000 clips
gives a mean pair cosine of 0.610 at L = 8 against 0.586 with as many k-means clusters as buckets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from weave_data.cluster.cosines import Quantized, UnitRows, direction_of, weighted_sum

__all__ = ["BUCKET_ROWS", "bucket_rows"]

BUCKET_ROWS = 2048
"""Most rows grouped at once: 16 MiB of cosines, about a second on one core."""

_BISECTION_ROUNDS = 5
_BLOCK_ROWS = 16_384

Rows = npt.NDArray[np.int64]


def bucket_rows(
    rows: UnitRows, clusters: npt.NDArray[np.int32], centroids: Quantized, *, max_rows: int = BUCKET_ROWS
) -> list[Rows]:
    """Split all rows into buckets of neighbours.

    Args:
        rows: n vectors.
        clusters: int32[n], each row's centroid.
        centroids: float32[k, dim] of integers.
        max_rows: Most rows of a bucket.

    Returns:
        Ascending row numbers of each bucket; every row is in exactly one.
    """
    sizes = np.bincount(clusters, minlength=len(centroids))
    packs = _split(centroids, np.arange(len(centroids)), sizes, max_rows)
    pack_of = np.empty(len(centroids), dtype=np.int64)
    for pack, members in enumerate(packs):
        pack_of[members] = pack
    packed = np.argsort(pack_of[clusters], kind="stable")
    stops = np.cumsum([sizes[members].sum() for members in packs])
    ones = np.ones(len(rows), dtype=np.int64)
    buckets: list[Rows] = []
    for members in np.split(packed, stops[:-1]):
        buckets += [piece for piece in _split(rows, members, ones, max_rows) if len(piece)]
    return buckets


def _split(
    vectors: Quantized | UnitRows, everything: Rows, weights: npt.NDArray[np.int64], max_weight: int
) -> list[Rows]:
    """Bisect until every piece weighs at most `max_weight` or is a single row."""
    pieces: list[Rows] = []
    pending = [everything]
    while pending:
        rows = pending.pop()
        if len(rows) <= 1 or weights[rows].sum() <= max_weight:
            pieces.append(rows)
            continue
        is_left = _bisect(vectors, rows, weights)
        pending += [rows[~is_left], rows[is_left]]  # the left half is popped, and so listed, first
    return pieces


def _bisect(
    vectors: Quantized | UnitRows, rows: Rows, weights: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Balanced 2-means: mask of the half nearer to the first pole, by weight about one half."""
    centre = _centre(vectors, rows, weights)
    first = _gather(vectors, rows[[np.argmin(_products(vectors, rows, centre))]])[0]
    second = _gather(vectors, rows[[np.argmin(_products(vectors, rows, first))]])[0]
    half = weights[rows].sum()
    for _ in range(_BISECTION_ROUNDS):
        score = _products(vectors, rows, np.stack([second, first], axis=1))
        order = np.argsort(score[:, 0] - score[:, 1], kind="stable")
        before = np.cumsum(weights[rows[order]]) * 2 <= half
        before[0], before[-1] = True, False  # both halves hold a row
        is_left = np.zeros(len(order), dtype=bool)
        is_left[order[before]] = True
        first = _centre(vectors, rows[is_left], weights)
        second = _centre(vectors, rows[~is_left], weights)
    return is_left


def _centre(vectors: Quantized | UnitRows, rows: Rows, weights: npt.NDArray[np.int64]) -> Quantized:
    sums = [weighted_sum(_gather(vectors, part), weights[part]) for part in _parts(rows)]
    return direction_of(np.sum(sums, axis=0))


def _products(vectors: Quantized | UnitRows, rows: Rows, poles: Quantized) -> npt.NDArray[np.float32]:
    return np.concatenate([_gather(vectors, part) @ poles for part in _parts(rows)])


def _gather(vectors: Quantized | UnitRows, rows: Rows) -> Quantized:
    return vectors.take(rows) if isinstance(vectors, UnitRows) else vectors[rows]


def _parts(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]
