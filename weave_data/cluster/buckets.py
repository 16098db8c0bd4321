"""One bucket from vectors to groups: a pure function, so buckets can be separate tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weave_data.cluster.bisection import Cosines, bisect_into_groups
from weave_data.cluster.cosines import Quantized
from weave_data.cluster.swaps import improve_by_swaps, within_group_sum

__all__ = ["BucketGroups", "group_bucket"]

Rows = npt.NDArray[np.int64]

_START_ROWS = 1024
_MAX_STARTS = 8


class BucketGroups(NamedTuple):
    """Groups of one bucket.

    `groups` int64[g, L] and `leftovers` int64[r], r < L, number the bucket's rows.
    """

    groups: Rows
    leftovers: Rows


def group_bucket(quantized: Quantized, *, clips_per_group: int, ranks: Rows) -> BucketGroups:
    """Group the rows of one bucket by balanced bisection, then swaps.

    Small buckets are started several times from different rows and the best result is kept: alone,
    one start in forty falls below 0.97 of the exact matching at 200 rows and L = 2, the best of
    five reaches 0.98.

    Args:
        quantized: float32[m, dim] of integers, rows in clip-id order.
        clips_per_group: L, at least 2.
        ranks: int64[m], distinct: a seeded order that chooses where bisections start.

    Returns:
        Groups of exactly L rows, and the fewer than L rows least similar to their neighbours.
    """
    size = len(quantized)
    if size < clips_per_group:
        return BucketGroups(np.empty((0, clips_per_group), dtype=np.int64), np.arange(size))
    cosines: Cosines = quantized @ quantized.T
    leftovers = _loneliest(cosines, num_rows=size % clips_per_group, clips_per_group=clips_per_group)
    rows = np.setdiff1d(np.arange(size), leftovers)
    best, best_sum = np.empty((0, clips_per_group), dtype=np.int64), -1
    num_starts = min(max(_START_ROWS // size, 1), _MAX_STARTS)
    order = np.argsort(ranks, kind="stable")
    for start in range(num_starts):
        turned = np.empty(size, dtype=np.int64)
        turned[np.roll(order, -start * (size // num_starts))] = np.arange(size)
        groups = bisect_into_groups(cosines, rows, clips_per_group=clips_per_group, ranks=turned)
        groups = improve_by_swaps(cosines, groups)
        total = within_group_sum(cosines, groups)
        if total > best_sum:
            best, best_sum = groups, total
    return BucketGroups(best, leftovers)


def _loneliest(cosines: Cosines, *, num_rows: int, clips_per_group: int) -> Rows:
    """Rows whose L - 1 nearest rows are farthest away in sum; ties go to the lower row."""
    if num_rows == 0:
        return np.empty(0, dtype=np.int64)
    others = cosines.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = -np.sort(-others, axis=1)[:, : clips_per_group - 1]
    closeness = nearest.sum(axis=1, dtype=np.float64)
    return np.sort(np.argsort(closeness, kind="stable")[:num_rows])
