"""Rows to buckets: k-means on a seeded sample, assignment, and packing into at most 2048 rows.

Groups are formed within a bucket, so a bucket should not cut through what belongs together: clusters
are small (256 rows) and neighbouring ones share a bucket, which at 20,000 clips gives a mean pair
cosine of 0.610 at L = 8 against 0.586 with as many k-means clusters as buckets.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from weave_data.cluster.cosines import SCALE, Quantized, mean_direction

__all__ = ["BUCKET_ROWS", "assign_clusters", "bucket_rows", "train_centroids"]

BUCKET_ROWS = 2048
"""Most rows grouped at once: 16 MiB of cosines, about a second on one core."""

_CLUSTER_ROWS = 256
_MAX_CLUSTERS = 4096
_SAMPLE_ROWS_PER_CLUSTER = 256
_KMEANS_ROUNDS = 20
_BISECTION_ROUNDS = 5
_ASSIGN_ROWS = 16_384

Rows = npt.NDArray[np.int64]


def train_centroids(quantized: Quantized, ranks: npt.NDArray[np.int64], *, seed: int) -> Quantized:
    """Spherical k-means (faiss) on the rows that a seeded permutation puts first.

    Args:
        quantized: float32[n, dim] of integers.
        ranks: int64[n], the permutation that chooses the sample.
        seed: Of the initial centroids.

    Returns:
        float32[k, dim] of integers, k about n / 256 and at most 4096.
    """
    num_clusters = min(max(round(len(quantized) / _CLUSTER_ROWS), 1), _MAX_CLUSTERS)
    sample = quantized[ranks < num_clusters * _SAMPLE_ROWS_PER_CLUSTER] / np.float32(SCALE)
    kmeans = faiss.Kmeans(
        quantized.shape[1],
        num_clusters,
        niter=_KMEANS_ROUNDS,
        seed=seed % (1 << 31),
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_SAMPLE_ROWS_PER_CLUSTER,
    )
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # float sums of centroids must not depend on the cores at hand
    try:
        kmeans.train(sample)
    finally:
        faiss.omp_set_num_threads(threads)
    assert kmeans.centroids is not None
    centroids: npt.NDArray[np.float32] = kmeans.centroids
    return np.rint(centroids * np.float32(SCALE))


def assign_clusters(quantized: Quantized, centroids: Quantized) -> npt.NDArray[np.int32]:
    """Nearest centroid of each row, the lowest id of equals: int32[n]."""
    clusters = np.empty(len(quantized), dtype=np.int32)
    for start in range(0, len(quantized), _ASSIGN_ROWS):
        cosines = quantized[start : start + _ASSIGN_ROWS] @ centroids.T
        clusters[start : start + _ASSIGN_ROWS] = np.argmax(cosines, axis=1)
    return clusters


def bucket_rows(
    quantized: Quantized,
    clusters: npt.NDArray[np.int32],
    centroids: Quantized,
    *,
    max_rows: int = BUCKET_ROWS,
) -> list[Rows]:
    """Split all rows into buckets of neighbours.

    Neighbouring clusters are packed together up to `max_rows`; a larger cluster is bisected.

    Args:
        quantized: float32[n, dim] of integers.
        clusters: int32[n], each row's centroid.
        centroids: float32[k, dim] of integers.
        max_rows: Most rows of a bucket.

    Returns:
        Ascending row numbers of each bucket; every row is in exactly one.
    """
    sizes = np.bincount(clusters, minlength=len(centroids))
    packs = _split(centroids, sizes, max_rows)
    pack_of = np.empty(len(centroids), dtype=np.int64)
    for pack, members in enumerate(packs):
        pack_of[members] = pack
    packed = np.argsort(pack_of[clusters], kind="stable")
    stops = np.cumsum([sizes[members].sum() for members in packs])
    buckets: list[Rows] = []
    for rows in np.split(packed, stops[:-1]):
        ones = np.ones(len(rows), dtype=np.int64)
        buckets += [rows[piece] for piece in _split(quantized[rows], ones, max_rows) if len(piece)]
    return buckets


def _split(quantized: Quantized, weights: npt.NDArray[np.int64], max_weight: int) -> list[Rows]:
    """Bisect until every piece weighs at most `max_weight` or is a single row."""
    pieces: list[Rows] = []
    pending = [np.arange(len(quantized))]
    while pending:
        rows = pending.pop()
        if len(rows) <= 1 or weights[rows].sum() <= max_weight:
            pieces.append(rows)
            continue
        is_left = _bisect(quantized[rows], weights[rows])
        pending += [rows[~is_left], rows[is_left]]  # the left half is popped, and so listed, first
    return pieces


def _bisect(quantized: Quantized, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Balanced 2-means: mask of the half nearer to the first pole, by weight about one half."""
    centre = mean_direction(quantized, weights)
    first = quantized[np.argmin(quantized @ centre)]
    second = quantized[np.argmin(quantized @ first)]
    for _ in range(_BISECTION_ROUNDS):
        order = np.argsort(quantized @ second - quantized @ first, kind="stable")
        before = np.cumsum(weights[order]) * 2 <= weights.sum()
        before[0], before[-1] = True, False  # both halves hold a row
        is_left = np.zeros(len(order), dtype=bool)
        is_left[order[before]] = True
        first = mean_direction(quantized[is_left], weights[is_left])
        second = mean_direction(quantized[~is_left], weights[~is_left])
    return is_left
