"""The three ways to put clips together: single, random, clustered."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster.cosines import quantize
from weave_data.cluster.splits import split_of
from weave_data.errors import AccountingError, VerificationError
from weave_data.keyed_hash import keyed_ranks
from weave_data.records import GROUP_SCHEMA

__all__ = ["Grouping", "Remainder", "Strategy", "group_splits", "make_groups"]

Strategy = Literal["single", "random", "clustered"]
Remainder = Literal["drop", "keep"]
Rows = npt.NDArray[np.int64]

_KEY = "group"


class Grouping(NamedTuple):
    """Groups and what did not fill one.

    `table` is GROUP_SCHEMA ordered by (group_index, slot); `dropped` string[r], ascending clip ids.
    """

    table: pa.Table
    dropped: pa.Array


class _Layout(NamedTuple):
    """Rows group after group, the sizes of the groups, and each row's cluster id."""

    rows: Rows
    sizes: Rows
    clusters: npt.NDArray[np.int32]


def group_splits(
    clip_ids: pa.Array | pa.ChunkedArray,
    vectors: npt.NDArray[np.floating] | None,
    *,
    strategy: Strategy,
    clips_per_group: int,
    seed: int,
    remainder: Remainder,
    val_fraction: float,
) -> Grouping:
    """`make_groups` of train and of val: no group mixes the splits.

    Args:
        clip_ids: string[n], distinct, any order.
        vectors: As for `make_groups`.
        strategy: As for `make_groups`.
        clips_per_group: As for `make_groups`.
        seed: As for `make_groups`.
        remainder: As for `make_groups`.
        val_fraction: Share of clips held out, by hash of the clip id.

    Returns:
        Train groups, then val groups; `group_index` counts through both.
    """
    clip_ids = _flat(clip_ids)
    splits = split_of(clip_ids, val_fraction)
    tables, dropped, num_groups = [], [], 0
    for split in ("train", "val"):
        mask = pc.equal(splits, split)
        table, rest = make_groups(
            clip_ids.filter(mask),
            None if vectors is None else vectors[mask.to_numpy(zero_copy_only=False)],
            strategy=strategy,
            clips_per_group=clips_per_group,
            seed=seed,
            remainder=remainder,
            split=split,
        )
        index = pc.add(table["group_index"], num_groups)
        tables.append(table.set_column(0, GROUP_SCHEMA.field("group_index"), index))
        num_groups += pc.count_distinct(table["group_index"]).as_py()
        dropped.append(rest)
    rest = pa.concat_arrays(dropped)
    return Grouping(pa.concat_tables(tables).combine_chunks(), rest.take(pc.sort_indices(rest)))


def make_groups(
    clip_ids: pa.Array | pa.ChunkedArray,
    vectors: npt.NDArray[np.floating] | None,
    *,
    strategy: Strategy,
    clips_per_group: int,
    seed: int,
    remainder: Remainder,
    split: str,
) -> Grouping:
    """Put clips into groups of exactly L, each clip in one group at most.

    Args:
        clip_ids: string[n], distinct, any order: the result does not depend on it.
        vectors: float16 or float32[n, dim] of unit length in the order of `clip_ids`; needed by
            `clustered` only.
        strategy: `single` (L = 1), `random` (a keyed permutation cut into runs of L) or `clustered`
            (similar clips together).
        clips_per_group: L.
        seed: Another seed gives other groups; the same seed the same groups on any machine.
        remainder: What becomes of the last n mod L clips: `drop` lists them, `keep` makes a short
            group of them, the last one.
        split: Label of all these clips.

    Returns:
        The groups and the clips left out.

    Raises:
        AccountingError: A clip id appears twice.
        VerificationError: `clustered` without one unit vector per clip.
    """
    clip_ids = _flat(clip_ids)
    order = pc.sort_indices(clip_ids)
    clip_ids = clip_ids.take(order)
    _refuse_repeats(clip_ids)
    ranks = keyed_ranks(clip_ids, key=f"{_KEY}:{seed}")
    if strategy == "clustered":
        _check_vectors(vectors, len(clip_ids))
        assert vectors is not None
        layout, rest = _cluster(vectors[order.to_numpy()], ranks, clips_per_group, seed)
    else:
        layout, rest = _chunk(ranks, clips_per_group)
    if remainder == "keep" and len(rest):
        layout = layout._replace(
            rows=np.concatenate([layout.rows, rest[np.argsort(ranks[rest])]]),
            sizes=np.append(layout.sizes, len(rest)),
        )
        rest = rest[:0]
    return Grouping(_table(clip_ids, layout, split), clip_ids.take(pa.array(np.sort(rest))))


def _chunk(ranks: Rows, clips_per_group: int) -> tuple[_Layout, Rows]:
    order = np.argsort(ranks)
    num_groups = len(order) // clips_per_group
    rows, rest = np.split(order, [num_groups * clips_per_group])
    unclustered = np.full(len(order), -1, dtype=np.int32)
    return _Layout(rows, np.full(num_groups, clips_per_group), unclustered), rest


def _cluster(
    vectors: npt.NDArray[np.floating], ranks: Rows, clips_per_group: int, seed: int
) -> tuple[_Layout, Rows]:
    from weave_data.cluster.similar import group_similar  # loads faiss

    groups, rest, clusters = group_similar(
        quantize(vectors), clips_per_group=clips_per_group, ranks=ranks, seed=seed
    )
    # groups by their lowest clip id, clips within a group by hash
    groups = groups[np.argsort(groups.min(axis=1))]
    groups = np.take_along_axis(groups, np.argsort(ranks[groups], axis=1), axis=1)
    return _Layout(groups.ravel(), np.full(len(groups), clips_per_group), clusters), rest


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


def _check_vectors(vectors: npt.NDArray[np.floating] | None, num_clips: int) -> None:
    found = "none" if vectors is None else f"shape {vectors.shape}"
    if vectors is None or vectors.ndim != 2 or len(vectors) != num_clips:
        raise VerificationError(
            f"strategy clustered needs one vector for each of {num_clips} clips, got {found}; "
            "embed the clips first, or group at random"
        )
