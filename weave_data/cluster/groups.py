"""The ways to put clips together: single, random, clustered, diverse."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster.centroids import as_quantized
from weave_data.cluster.cosines import UnitRows
from weave_data.cluster.separation import deal_short, separate
from weave_data.cluster.similar import group_similar, group_unlike
from weave_data.cluster.task import GroupTask, taste_codes
from weave_data.errors import AccountingError, VerificationError
from weave_data.keyed_hash import keyed_ranks
from weave_data.records import GROUP_SCHEMA

__all__ = ["Grouping", "Remainder", "Strategy", "epoch_seed", "group_splits"]

Strategy = Literal["single", "random", "clustered", "diverse"]
Remainder = Literal["drop", "keep"]
Rows = npt.NDArray[np.int64]

_KEY = "group"
SPLITS = ("train", "val")
_VECTOR_STRATEGIES = ("clustered", "diverse")


class Grouping(NamedTuple):
    """Groups and what did not fill one.

    `table` is GROUP_SCHEMA ordered by (group_index, slot); `dropped` string[r], ascending clip ids;
    `num_apart` how many of them only labels keep out, beyond the n mod L of each split.
    """

    table: pa.Table
    dropped: pa.Array
    num_apart: int = 0


class _Layout(NamedTuple):
    """Rows group after group, the sizes of the groups, and each row's cluster id."""

    rows: Rows
    sizes: Rows
    clusters: npt.NDArray[np.int32]


def group_splits(  # noqa: PLR0913 - one call of the pipeline, all by name
    clip_ids: pa.Array | pa.ChunkedArray,
    vectors: npt.NDArray[np.floating] | None,
    *,
    splits: pa.Array | pa.ChunkedArray,
    strategy: Strategy,
    clips_per_group: int,
    seed: int,
    epoch: int = 0,
    remainder: Remainder,
    labels: npt.NDArray[np.int64] | None = None,
    centroids: npt.NDArray[np.float32] | None = None,
) -> Grouping:
    """Put clips into groups of exactly L, each clip in one group at most, no group across splits.

    Args:
        clip_ids: string[n], distinct, any order: the result does not depend on it.
        vectors: float16 or float32[n, dim] of unit length in the order of `clip_ids`, may be
            memory-mapped; needed by `clustered` and `diverse` only.
        splits: string[n], `train` or `val`, in the order of `clip_ids`.
        strategy: `single` (L = 1), `random` (a keyed permutation cut into runs of L), `clustered`
            (similar clips together) or `diverse` (unlike clips together).
        clips_per_group: L.
        seed: Another seed gives other groups; the same seed the same groups on any machine.
        epoch: Another epoch gives other groups of the same seed.
        remainder: What becomes of the last n mod L clips of a split, and of clips that labels keep out
            of every group: `drop` lists them, `keep` makes short groups of them, the last ones.
        labels: int64[n], in the order of `clip_ids`; two clips of one label never share a group. There
            are still as many groups as labels allow.
        centroids: float32[c, dim] that `clustered` uses instead of its own; `cluster_id` counts them.

    Returns:
        Train groups, then val groups; `group_index` counts through both. And the clips left out.

    Raises:
        AccountingError: A clip id appears twice, a split is neither `train` nor `val`, or labels are
            not one for each clip.
        VerificationError: `clustered` or `diverse` without one unit vector per clip, or centroids of
            other vectors.
    """
    clip_ids, splits = _flat(clip_ids), _flat(splits)
    _check_splits(splits, len(clip_ids))
    if labels is not None and len(labels) != len(clip_ids):
        raise AccountingError(f"{len(labels)} labels for {len(clip_ids)} clips; give every clip one")
    if strategy in _VECTOR_STRATEGIES:
        _check_vectors(vectors, len(clip_ids), strategy)
    tables, dropped, num_groups, num_apart = [], [], 0, 0
    for split in SPLITS:
        mask = pc.equal(splits, split)
        names = clip_ids.filter(mask)
        order = pc.sort_indices(names)
        names = names.take(order)
        _refuse_repeats(names)
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))[order.to_numpy()]
        task = GroupTask(
            # one component of nothing where no vector is needed: it is never read
            UnitRows(np.empty((len(clip_ids), 1), np.float16) if vectors is None else vectors, rows),
            clips_per_group,
            keyed_ranks(names, key=_epoch_key(seed, epoch)),
            _labels(labels, rows),
            unlike=strategy == "diverse",
        )
        if strategy == "clustered" and epoch:
            task = replace(task, tastes=taste_codes(names, key=f"taste:{_epoch_key(seed, epoch)}"))
        layout, rest = _group(task, strategy, epoch_seed(seed, epoch), centroids)
        if remainder == "keep":
            layout, rest = _keep(task, layout, rest)
        table = _table(names, layout, split)
        index = pc.add(table["group_index"], num_groups)
        tables.append(table.set_column(0, GROUP_SCHEMA.field("group_index"), index))
        num_groups += len(layout.sizes)
        num_apart += max(len(rest) - len(names) % clips_per_group, 0)
        dropped.append(names.take(pa.array(np.sort(rest))))
    left = pa.concat_arrays(dropped)
    table = pa.concat_tables(tables).combine_chunks()
    return Grouping(table, left.take(pc.sort_indices(left)), num_apart)


def _group(
    task: GroupTask, strategy: Strategy, seed: int, centroids: npt.NDArray[np.float32] | None
) -> tuple[_Layout, Rows]:
    """Groups of one split's clips and rows left out."""
    if strategy not in _VECTOR_STRATEGIES or task.clips_per_group == 1:
        return _chunk(task)
    if strategy == "diverse":
        groups, rest, clusters = group_unlike(task)
    else:
        fixed = None if centroids is None else as_quantized(centroids, dim=task.vectors.dim)
        groups, rest, clusters = group_similar(task, seed=seed, centroids=fixed)
    # groups by their lowest clip id, clips within a group by hash
    groups = groups[np.argsort(groups.min(axis=1))]
    groups = np.take_along_axis(groups, np.argsort(task.ranks[groups], axis=1), axis=1)
    return _Layout(groups.ravel(), np.full(len(groups), task.clips_per_group), clusters), rest


def _chunk(task: GroupTask) -> tuple[_Layout, Rows]:
    order = np.argsort(task.ranks)
    num_groups = len(order) // task.clips_per_group
    rows, rest = np.split(order, [num_groups * task.clips_per_group])
    if task.labels is not None:
        groups, rest = separate(rows.reshape(-1, task.clips_per_group), rest, task.labels)
        rows, num_groups = groups.ravel(), len(groups)
    unclustered = np.full(len(order), -1, dtype=np.int32)
    return _Layout(rows, np.full(num_groups, task.clips_per_group), unclustered), rest


def _keep(task: GroupTask, layout: _Layout, rest: Rows) -> tuple[_Layout, Rows]:
    """Leftovers as short groups at the end, clips of one label in different ones."""
    if not len(rest):
        return layout, rest
    labels = np.arange(len(rest)) if task.labels is None else task.labels[rest]
    short = deal_short(labels, task.clips_per_group, np.argsort(task.ranks[rest]))
    groups = [rest[places][np.argsort(task.ranks[rest[places]])] for places in short]
    kept = layout._replace(
        rows=np.concatenate([layout.rows, *groups]),
        sizes=np.append(layout.sizes, [len(group) for group in groups]),
    )
    return kept, rest[:0]


def _labels(labels: npt.NDArray[np.int64] | None, rows: Rows) -> Rows | None:
    """Labels of some rows; None when each has its own."""
    if labels is None or len(np.unique(labels[rows])) == len(rows):
        return None
    return labels[rows]


def _epoch_key(seed: int, epoch: int) -> str:
    return f"{_KEY}:{seed}:{epoch}" if epoch else f"{_KEY}:{seed}"


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's float stages: the seed itself in epoch 0, unrelated numbers after it."""
    if epoch == 0:
        return seed
    digest = hashlib.blake2b(_epoch_key(seed, epoch).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _table(clip_ids: pa.Array, layout: _Layout, split: str) -> pa.Table:
    num_groups, num_rows = len(layout.sizes), len(layout.rows)
    starts = np.cumsum(layout.sizes) - layout.sizes
    columns = [
        pa.array(np.repeat(np.arange(num_groups), layout.sizes), pa.int64()),
        pa.array((np.arange(num_rows) - np.repeat(starts, layout.sizes)).astype(np.int16)),
        clip_ids.take(pa.array(layout.rows)),
        pa.array(layout.clusters[layout.rows]),
        pa.array([split]).take(pa.array(np.zeros(num_rows, dtype=np.int64))),
    ]
    return pa.Table.from_arrays(columns, schema=GROUP_SCHEMA)


def _flat(clip_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    return clip_ids.combine_chunks() if isinstance(clip_ids, pa.ChunkedArray) else clip_ids


def _refuse_repeats(ascending: pa.Array) -> None:
    repeated = pc.equal(ascending[1:], ascending[:-1]) if len(ascending) > 1 else pa.array([], pa.bool_())
    if pc.any(repeated).as_py():
        clip_id = ascending[pc.index(repeated, True).as_py()].as_py()
        raise AccountingError(
            f"clip {clip_id} appears twice; a clip is in one group at most, drop duplicates in the catalog"
        )


def _check_splits(splits: pa.Array, num_clips: int) -> None:
    strange = splits.filter(pc.invert(pc.is_in(splits, value_set=pa.array(SPLITS))))
    if len(strange) or len(splits) != num_clips:
        found = f"{strange[0].as_py()!r}" if len(strange) else f"{len(splits)} splits of {num_clips} clips"
        raise AccountingError(f"every clip is of split train or val, got {found}; use `split_of`")


def _check_vectors(vectors: npt.NDArray[np.floating] | None, num_clips: int, strategy: str) -> None:
    found = "none" if vectors is None else f"shape {vectors.shape}"
    if vectors is None or vectors.ndim != 2 or len(vectors) != num_clips:
        raise VerificationError(
            f"strategy {strategy} needs one vector for each of {num_clips} clips, got {found}; "
            "embed the clips first, or group at random"
        )
