"""Cut a plan into shards: arithmetic over row counts, nothing is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import VerificationError

__all__ = ["ShardSlice", "count_rows", "num_row_groups", "row_group_span", "shard_path", "shard_slices"]


@dataclass(frozen=True)
class ShardSlice:
    """Plan rows `[start, stop)` that become shard `index` of one (split, epoch)."""

    split: str
    epoch: int
    index: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows of the shard."""
        return self.stop - self.start


def shard_slices(num_rows: Mapping[tuple[str, int], int], shard_rows: int) -> tuple[ShardSlice, ...]:
    """Every shard full, except the last of each (split, epoch).

    Args:
        num_rows: Plan rows of each (split, epoch), in plan order.
        shard_rows: Rows of a full shard.
    """
    slices, base = [], 0
    for (split, epoch), rows in num_rows.items():
        for index, start in enumerate(range(0, rows, shard_rows)):
            stop = min(start + shard_rows, rows)
            slices.append(ShardSlice(split, epoch, index, base + start, base + stop))
        base += rows
    return tuple(slices)


def count_rows(plan: pa.Table) -> dict[tuple[str, int], int]:
    """Rows of each (split, epoch), in plan order.

    Raises:
        VerificationError: The rows of a (split, epoch) do not lie together.
    """
    if not plan.num_rows:
        return {}
    split = pc.run_end_encode(plan["split"].combine_chunks())
    counts: dict[tuple[str, int], int] = {}
    start = 0
    for stop, name in zip(split.run_ends.to_pylist(), split.values.to_pylist(), strict=True):
        epochs = pc.run_end_encode(plan["epoch"].slice(start, stop - start).combine_chunks())
        first = 0
        for last, epoch in zip(epochs.run_ends.to_pylist(), epochs.values.to_pylist(), strict=True):
            if (name, epoch) in counts:
                raise VerificationError(f"plan: rows of split {name}, epoch {epoch} do not lie together")
            counts[name, epoch] = last - first
            first = last
        start = stop
    return counts


def shard_path(recipe: str, fingerprint: str, piece: ShardSlice) -> str:
    """Key of a shard, relative to the output."""
    return f"{recipe}/{fingerprint[:12]}/{piece.split}/epoch={piece.epoch}/shard-{piece.index:05d}.parquet"


def num_row_groups(rows: int, row_group_rows: int) -> int:
    """Row groups of a shard of `rows` rows; every one full except the last."""
    return -(-rows // row_group_rows)


def row_group_span(rows: int, row_group_rows: int, index: int) -> tuple[int, int]:
    """Rows `[start, stop)` of row group `index` within its shard.

    Raises:
        IndexError: There is no such row group.
    """
    if not 0 <= index < num_row_groups(rows, row_group_rows):
        raise IndexError(
            f"row group {index}: the shard of {rows} rows has {num_row_groups(rows, row_group_rows)}"
        )
    return index * row_group_rows, min((index + 1) * row_group_rows, rows)
