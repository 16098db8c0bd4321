"""The three ways to put clips together: single, random, clustered."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster.cosines import UnitRows
from weave_data.errors import AccountingError, VerificationError
from weave_data.keyed_hash import keyed_ranks
from weave_data.records import GROUP_SCHEMA

__all__ = ["Grouping", "Remainder", "Strategy", "epoch_seed", "group_splits"]

Strategy = Literal["single", "random", "clustered"]
Remainder = Literal["drop", "keep"]
Rows = npt.NDArray[np.int64]

_KEY = "group"
SPLITS = ("train", "val")


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
) -> Grouping:
    """Put clips into groups of exactly L, each clip in one group at most, no group across splits.

    Args:
        clip_ids: string[n], distinct, any order: the result does not depend on it.
        vectors: float16 or float32[n, dim] of unit length in the order of `clip_ids`; needed by
            `clustered` only.
        splits: string[n], `train` or `val`, in the order of `clip_ids`.
        strategy: `single` (L = 1), `random` (a keyed permutation cut into runs of L) or `clustered`
            (similar clips together).
        clips_per_group: L.
        seed: Another seed gives other groups; the same seed the same groups on any machine.
        epoch: Another epoch gives other groups of the same seed.
        remainder: What becomes of the last n mod L clips of a split: `drop` lists them, `keep` makes a
            short group of them, the last one.

    Returns:
        Train groups, then val groups; `group_index` counts through both. And the clips left out.

    Raises:
        AccountingError: A clip id appears twice, or a split is neither `train` nor `val`.
        VerificationError: `clustered` without one unit vector per clip.
    """
    clip_ids, splits = _flat(clip_ids), _flat(splits)
    _check_splits(splits, len(clip_ids))
    if strategy == "clustered":
        _check_vectors(vectors, len(clip_ids))
    tables, dropped, num_groups = [], [], 0
    for split in SPLITS:
        mask = pc.equal(splits, split)
        names = clip_ids.filter(mask)
        order = pc.sort_indices(names)
        names = names.take(order)
        _refuse_repeats(names)
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))[order.to_numpy()]
        chosen = None if vectors is None or strategy != "clustered" else UnitRows(vectors, rows)
        layout, rest = _group(names, chosen, clips_per_group, seed, epoch, remainder)
        table = _table(names, layout, split)
        index = pc.add(table["group_index"], num_groups)
        tables.append(table.set_column(0, GROUP_SCHEMA.field("group_index"), index))
        num_groups += len(layout.sizes)
        dropped.append(names.take(pa.array(rest)))
    rest = pa.concat_arrays(dropped)
    return Grouping(pa.concat_tables(tables).combine_chunks(), rest.take(pc.sort_indices(rest)))


def _group(
    clip_ids: pa.Array,
    vectors: UnitRows | None,
    clips_per_group: int,
    seed: int,
    epoch: int,
    remainder: Remainder,
) -> tuple[_Layout, Rows]:
    """Groups of one split's clips, ascending ids, and ascending rows left out."""
    ranks = keyed_ranks(clip_ids, key=f"{_KEY}:{seed}:{epoch}" if epoch else f"{_KEY}:{seed}")
    if vectors is None:
        layout, rest = _chunk(ranks, clips_per_group)
    else:
        layout, rest = _cluster(vectors, ranks, clips_per_group, epoch_seed(seed, epoch))
    if remainder == "keep" and len(rest):
        layout = layout._replace(
            rows=np.concatenate([layout.rows, rest[np.argsort(ranks[rest])]]),
            sizes=np.append(layout.sizes, len(rest)),
        )
        rest = rest[:0]
    return layout, np.sort(rest)


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's float stages: the seed itself in epoch 0, unrelated numbers after it."""
    if epoch == 0:
        return seed
    digest = hashlib.blake2b(f"{_KEY}:{seed}:{epoch}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _chunk(ranks: Rows, clips_per_group: int) -> tuple[_Layout, Rows]:
    order = np.argsort(ranks)
    num_groups = len(order) // clips_per_group
    rows, rest = np.split(order, [num_groups * clips_per_group])
    unclustered = np.full(len(order), -1, dtype=np.int32)
    return _Layout(rows, np.full(num_groups, clips_per_group), unclustered), rest


def _cluster(vectors: UnitRows, ranks: Rows, clips_per_group: int, seed: int) -> tuple[_Layout, Rows]:
    from weave_data.cluster.similar import group_similar  # loads faiss

    groups, rest, clusters = group_similar(vectors, clips_per_group=clips_per_group, ranks=ranks, seed=seed)
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


def _check_splits(splits: pa.Array, num_clips: int) -> None:
    strange = splits.filter(pc.invert(pc.is_in(splits, value_set=pa.array(SPLITS))))
    if len(strange) or len(splits) != num_clips:
        found = f"{strange[0].as_py()!r}" if len(strange) else f"{len(splits)} splits of {num_clips} clips"
        raise AccountingError(f"every clip is of split train or val, got {found}; use `split_of`")


def _check_vectors(vectors: npt.NDArray[np.floating] | None, num_clips: int) -> None:
    found = "none" if vectors is None else f"shape {vectors.shape}"
    if vectors is None or vectors.ndim != 2 or len(vectors) != num_clips:
        raise VerificationError(
            f"strategy clustered needs one vector for each of {num_clips} clips, got {found}; "
            "embed the clips first, or group at random"
        )
