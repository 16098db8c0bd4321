"""All rows from vectors to groups: buckets one by one, what they leave in later turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weave_data.cluster.centroids import assign_clusters, train_centroids
from weave_data.cluster.cosines import Quantized
from weave_data.cluster.partition import BUCKET_ROWS, bucket_rows
from weave_data.cluster.separation import Dealt, most_groups, separate
from weave_data.cluster.task import GroupTask

__all__ = ["SimilarGroups", "group_similar", "group_unlike"]

Rows = npt.NDArray[np.int64]
Bucketing = Callable[[Rows], Sequence[Rows]]
"""Rows to group -> the same rows in buckets, each ascending."""


class SimilarGroups(NamedTuple):
    """`groups` int64[g, L] and `leftovers` int64[r] of rows; `clusters` int32[n]."""

    groups: Rows
    leftovers: Rows
    clusters: npt.NDArray[np.int32]


def group_similar(
    task: GroupTask, *, seed: int, centroids: Quantized | None = None, max_rows: int = BUCKET_ROWS
) -> SimilarGroups:
    """Group similar rows, each row in one group at most and as few as can be left over.

    Args:
        task: The rows.
        seed: Of the initial centroids.
        centroids: float32[c, dim] of integers; trained on these rows when not given.
        max_rows: Most rows of a bucket, at least 4 * L: then every turn forms groups.

    Returns:
        The groups, the leftovers (fewer than L, more only where labels keep them apart), and each
        row's centroid.
    """
    if len(task.vectors) == 0:
        return SimilarGroups(*_nothing(task), np.empty(0, dtype=np.int32))
    if centroids is None:
        centroids = train_centroids(task.vectors, task.ranks, seed=seed)
    fixed: Quantized = centroids
    clusters = assign_clusters(task.vectors, fixed)

    def neighbours(rows: Rows) -> Sequence[Rows]:
        found = bucket_rows(task.vectors.subset(rows), clusters[rows], fixed, max_rows=max_rows)
        return [rows[bucket] for bucket in found]

    return SimilarGroups(*_in_turns(task, neighbours), clusters)


def group_unlike(task: GroupTask, *, max_rows: int = BUCKET_ROWS) -> SimilarGroups:
    """Group unlike rows: buckets are random, so that each holds a bit of everything.

    Args:
        task: The rows, `unlike` set.
        max_rows: Most rows of a bucket, at least 4 * L.

    Returns:
        As `group_similar`; no row has a centroid (-1).
    """
    unclustered = np.full(len(task.vectors), -1, dtype=np.int32)
    if len(task.vectors) == 0:
        return SimilarGroups(*_nothing(task), unclustered)
    most = max_rows // task.clips_per_group * task.clips_per_group

    def shuffled(rows: Rows) -> Sequence[Rows]:
        order = rows[np.argsort(task.ranks[rows])]
        return [np.sort(order[start : start + most]) for start in range(0, len(order), most)]

    return SimilarGroups(*_in_turns(task, shuffled), unclustered)


def _in_turns(task: GroupTask, bucketing: Bucketing) -> Dealt:
    """Group bucket by bucket; then the leftovers of all buckets together, until no turn helps."""
    found: list[Rows] = [_nothing(task).groups]
    pending = np.arange(len(task.vectors))
    while True:
        # one further turn is the rule: its leftovers fit one bucket up to 2048 / L buckets
        buckets = bucketing(pending)
        turns = _each(lambda rows: _group_rows(task, rows), buckets)
        found += [turn.groups for turn in turns]
        num_pending, pending = len(pending), np.sort(np.concatenate([turn.leftovers for turn in turns]))
        if len(buckets) == 1 or len(pending) < task.clips_per_group or len(pending) == num_pending:
            break
    groups = np.concatenate(found)
    if task.labels is None or len(groups) == most_groups(task.labels, task.clips_per_group):
        return Dealt(groups, pending)
    return separate(groups, pending, task.labels)


def _group_rows(task: GroupTask, rows: Rows) -> Dealt:
    found = task.subset(rows).group()
    return Dealt(rows[found.groups], rows[found.leftovers])


def _each(work: Callable[[Rows], Dealt], buckets: Sequence[Rows]) -> list[Dealt]:
    """Buckets do not know of each other: any number of threads gives the same groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, len(buckets))
    if threads < 2:
        return [work(rows) for rows in buckets]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, buckets))


def _nothing(task: GroupTask) -> Dealt:
    empty = np.empty(0, dtype=np.int64)
    return Dealt(empty.reshape(0, task.clips_per_group), empty)
