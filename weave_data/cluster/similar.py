"""All clips from vectors to groups: buckets one by one, leftovers in one last pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weave_data.cluster.buckets import group_bucket
from weave_data.cluster.centroids import assign_clusters, train_centroids
from weave_data.cluster.cosines import UnitRows
from weave_data.cluster.partition import BUCKET_ROWS, bucket_rows

__all__ = ["SimilarGroups", "group_similar"]

Rows = npt.NDArray[np.int64]


class SimilarGroups(NamedTuple):
    """`groups` int64[g, L] and `leftovers` int64[r], r < L, of rows; `clusters` int32[n]."""

    groups: Rows
    leftovers: Rows
    clusters: npt.NDArray[np.int32]


def group_similar(
    vectors: UnitRows, *, clips_per_group: int, ranks: Rows, seed: int, max_rows: int = BUCKET_ROWS
) -> SimilarGroups:
    """Group similar rows, each row in one group at most and fewer than L left over.

    Args:
        vectors: n of them, in clip-id order.
        clips_per_group: L.
        ranks: int64[n], a seeded permutation.
        seed: Of the initial centroids.
        max_rows: Most rows of a bucket, at least 4 * L: then every turn forms groups.

    Returns:
        The groups, the leftovers, and each row's centroid.
    """
    if len(vectors) == 0:
        empty = np.empty(0, dtype=np.int64)
        return SimilarGroups(empty.reshape(0, clips_per_group), empty, empty.astype(np.int32))
    centroids = train_centroids(vectors, ranks, seed=seed)
    clusters = assign_clusters(vectors, centroids)
    groups: list[Rows] = []
    pending = np.arange(len(vectors))
    while True:
        # the second turn takes the leftovers of all buckets together; by then they fit one bucket
        # unless there were more than 2048 / L buckets, and then a third turn takes what is left
        buckets = bucket_rows(vectors.subset(pending), clusters[pending], centroids, max_rows=max_rows)
        leftovers = []
        for bucket in buckets:
            rows = pending[bucket]
            found = group_bucket(vectors.take(rows), clips_per_group=clips_per_group, ranks=ranks[rows])
            groups.append(rows[found.groups])
            leftovers.append(rows[found.leftovers])
        left = np.sort(np.concatenate(leftovers))
        if len(buckets) == 1 or len(left) < clips_per_group:
            return SimilarGroups(np.concatenate(groups), left, clusters)
        pending = left
