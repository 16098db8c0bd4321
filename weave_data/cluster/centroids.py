"""Centroids of clips: spherical k-means on a seeded sample, and the centroids nearest to a vector."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from weave_data.cluster.cosines import SCALE, Quantized, UnitRows, quantize
from weave_data.errors import VerificationError

__all__ = [
    "CLUSTER_ROWS",
    "as_quantized",
    "assign_clusters",
    "fit_centroids",
    "nearest_centroids",
    "train_centroids",
]

CLUSTER_ROWS = 256
_MAX_CLUSTERS = 4096
_SAMPLE_ROWS_PER_CLUSTER = 256
_SAMPLE_ROWS = 65_536  # beyond it every cluster is learned from fewer rows,
_MIN_ROWS_PER_CLUSTER = 32  # but never from fewer than these
_KMEANS_ROUNDS = 20
_TWO_LEVEL_CLUSTERS = 128
_LAST_ROUNDS = 3  # over all centroids at once
_BLOCK_ROWS = 4096

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


def fit_centroids(vectors: npt.NDArray[np.floating], seed: int) -> npt.NDArray[np.float32]:
    """Centroids to commit, so that a grown catalog can be grouped by the same ones.

    Args:
        vectors: float16 or float32[n, dim] of unit length; may be memory-mapped. Their order matters.
        seed: Of the sample of rows and of the initial centroids.

    Returns:
        float32[c, dim] of unit length, c about n / 256 and at most 4096; floating point, so computed
        once and then data.

    Raises:
        VerificationError: A sampled vector is not of unit length.
    """
    ranks = np.random.Generator(np.random.Philox(seed)).permutation(len(vectors))
    centroids = train_centroids(UnitRows(vectors, np.arange(len(vectors))), ranks, seed=seed)
    return centroids / np.linalg.norm(centroids, axis=1, keepdims=True)


def train_centroids(
    rows: UnitRows, ranks: Rows, *, seed: int, rows_per_cluster: int = CLUSTER_ROWS
) -> Quantized:
    """Spherical k-means (faiss) on the rows that a seeded permutation puts first.

    Many centroids start from a k-means of two levels: twenty rounds of 3906 centroids on 125,000 rows
    took 83 CPU seconds, this takes 18 and its centroids are a little nearer to the rows.

    Args:
        rows: n vectors.
        ranks: int64[n], the permutation that chooses the sample.
        seed: Of the initial centroids.
        rows_per_cluster: Rows for each centroid, unless that makes more than 4096.

    Returns:
        float32[k, dim] of integers, k about n / `rows_per_cluster` and at most 4096.
    """
    import faiss  # a fifth of a second that only clustering pays

    num_clusters = min(max(round(len(rows) / rows_per_cluster), 1), _MAX_CLUSTERS)
    at_most = max(_SAMPLE_ROWS, num_clusters * _MIN_ROWS_PER_CLUSTER)
    sample = rows.take(np.flatnonzero(ranks < min(num_clusters * _SAMPLE_ROWS_PER_CLUSTER, at_most)))
    sample /= np.float32(SCALE)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # float sums of centroids must not depend on the cores at hand
    try:
        if num_clusters < _TWO_LEVEL_CLUSTERS:
            centroids = _k_means(sample, num_clusters, seed=seed)
        else:
            start = _two_level_k_means(sample, num_clusters, seed=seed)
            centroids = _k_means(sample, num_clusters, seed=seed, start=start, rounds=_LAST_ROUNDS)
    finally:
        faiss.omp_set_num_threads(threads)
    return np.rint(centroids * np.float32(SCALE))


def _two_level_k_means(sample: Vectors, num_clusters: int, *, seed: int) -> Vectors:
    """Centroids of a few cells, then of the rows of each cell, by its share of the rows."""
    cells = _k_means(sample, math.isqrt(num_clusters), seed=seed)
    cell_of = np.argmax(sample @ cells.T, axis=1)
    num_rows = np.bincount(cell_of, minlength=len(cells))
    shares = np.diff(np.rint(np.cumsum(num_rows) * (num_clusters / len(sample))), prepend=0).astype(np.int64)
    wanted = np.flatnonzero(shares).tolist()
    return np.concatenate(
        [_k_means(sample[cell_of == cell], int(shares[cell]), seed=seed) for cell in wanted]
    )


def _k_means(
    sample: Vectors,
    num_clusters: int,
    *,
    seed: int,
    start: Vectors | None = None,
    rounds: int = _KMEANS_ROUNDS,
) -> Vectors:
    import faiss

    kmeans = faiss.Kmeans(
        sample.shape[1],
        num_clusters,
        niter=rounds,
        seed=seed % (1 << 31),
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_SAMPLE_ROWS_PER_CLUSTER,
    )
    kmeans.train(sample, init_centroids=start)
    assert kmeans.centroids is not None
    centroids: Vectors = kmeans.centroids
    return centroids


def as_quantized(centroids: npt.NDArray[np.floating], *, dim: int) -> Quantized:
    """Committed centroids as integers.

    Raises:
        VerificationError: They are of vectors of another model, or not of unit length.
    """
    if centroids.ndim != 2 or len(centroids) == 0 or centroids.shape[1] != dim:
        raise VerificationError(
            f"centroids have shape {centroids.shape}, the clips' vectors {dim} components; "
            "fit centroids with this build's embedding.model (groups.centroids: fit)"
        )
    return quantize(centroids)


def assign_clusters(rows: UnitRows, centroids: Quantized) -> npt.NDArray[np.int32]:
    """Nearest centroid of each row, the lowest id of equals: int32[n]."""
    clusters = np.empty(len(rows), dtype=np.int32)
    for place, block in rows.blocks(_BLOCK_ROWS):
        clusters[place] = np.argmax(block @ centroids.T, axis=1)
    return clusters


def nearest_centroids(
    rows: UnitRows, centroids: Quantized, count: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The centroids most similar to each row, the most similar first, the lowest id of equals.

    Args:
        rows: n vectors.
        centroids: float32[k, dim] of integers.
        count: How many, at most k.

    Returns:
        Ids int32[n, count] and cosines float32[n, count], descending.
    """
    ids = np.empty((len(rows), count), dtype=np.int32)
    cosines = np.empty((len(rows), count), dtype=np.float32)
    for place, block in rows.blocks(_BLOCK_ROWS):
        products = block @ centroids.T
        every = np.arange(len(block))
        for column in range(count):  # eight searches for a maximum cost a third of one partial sort
            best = np.argmax(products, axis=1)
            ids[place, column] = best
            cosines[place, column] = products[every, best] / np.float32(SCALE) ** 2
            products[every, best] = -np.inf
    return ids, cosines
