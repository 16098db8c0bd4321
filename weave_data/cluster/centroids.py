"""Centroids of clips: spherical k-means on a seeded sample, and the centroids nearest to a vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weave_data.cluster.cosines import SCALE, Quantized, UnitRows, quantize
from weave_data.errors import VerificationError

__all__ = ["as_quantized", "assign_clusters", "fit_centroids", "nearest_centroids", "train_centroids"]

_CLUSTER_ROWS = 256
_MAX_CLUSTERS = 4096
_SAMPLE_ROWS_PER_CLUSTER = 256
_SAMPLE_ROWS = 65_536  # beyond it every cluster is learned from fewer rows,
_MIN_ROWS_PER_CLUSTER = 32  # but never from fewer than these
_KMEANS_ROUNDS = 20
_BLOCK_ROWS = 4096

Rows = npt.NDArray[np.int64]


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


def train_centroids(rows: UnitRows, ranks: Rows, *, seed: int) -> Quantized:
    """Spherical k-means (faiss) on the rows that a seeded permutation puts first.

    Args:
        rows: n vectors.
        ranks: int64[n], the permutation that chooses the sample.
        seed: Of the initial centroids.

    Returns:
        float32[k, dim] of integers, k about n / 256 and at most 4096.
    """
    import faiss  # a fifth of a second that only clustering pays

    num_clusters = min(max(round(len(rows) / _CLUSTER_ROWS), 1), _MAX_CLUSTERS)
    at_most = max(_SAMPLE_ROWS, num_clusters * _MIN_ROWS_PER_CLUSTER)
    sample = rows.take(np.flatnonzero(ranks < min(num_clusters * _SAMPLE_ROWS_PER_CLUSTER, at_most)))
    sample /= np.float32(SCALE)
    kmeans = faiss.Kmeans(
        rows.dim,
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
        near = np.argpartition(-products, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(products, near, axis=1)
        order = np.lexsort((near, -found), axis=1)
        ids[place] = np.take_along_axis(near, order, axis=1)
        cosines[place] = np.take_along_axis(found, order, axis=1) / np.float32(SCALE) ** 2
    return ids, cosines
