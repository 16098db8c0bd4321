"""One shard, as an executor runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.shard import ADDRESS_SCHEMA, ShardReceipt, ShardRequest, write_shard
from weave_data.storage import Store

__all__ = ["ShardCutter", "ShardItem", "ShardOutcome", "ShardWork"]


@dataclass(frozen=True)
class ShardItem:
    """One shard's plan rows and the addresses of their clips, as Arrow IPC bytes."""

    recipe: str
    request: ShardRequest
    plan: bytes
    addresses: bytes


@dataclass(frozen=True)
class ShardOutcome:
    """A shard's receipt beside its recipe."""

    recipe: str
    receipt: ShardReceipt


@dataclass(frozen=True)
class ShardWork:
    """Gathers frames and commits the shard; picklable."""

    store: Store
    scratch: Path | None

    def __call__(self, item: ShardItem) -> ShardOutcome:
        """Write one shard, or find it written."""
        receipt = write_shard(
            item.request,
            _from_ipc(item.plan),
            _from_ipc(item.addresses),
            self.store,
            scratch_dir=self.scratch,
        )
        return ShardOutcome(item.recipe, receipt)


class ShardCutter:
    """Cuts a plan into shard items, each with the addresses of its clips: joined once, not per shard.

    Args:
        plan: PLAN_SCHEMA of one epoch.
        addresses: Address table of the whole build, `ADDRESS_SCHEMA`.
    """

    def __init__(self, plan: pa.Table, addresses: pa.Table) -> None:
        self._plan = plan.combine_chunks()
        self._addresses = addresses.combine_chunks()
        lists = plan["clips"].combine_chunks()
        clip_ids = lists.flatten().field("clip_id")
        self._rows = pc.index_in(clip_ids, value_set=_array(self._addresses["clip_id"]))
        sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])

    def item(self, recipe: str, request: ShardRequest, start: int, num_rows: int) -> ShardItem:
        """The shard of plan rows [start, start + num_rows).

        Args:
            recipe: Name, for the receipt.
            request: Which shard.
            start: First row.
            num_rows: How many.
        """
        first, last = self._offsets[start], self._offsets[start + num_rows]
        wanted = self._addresses.take(self._rows[first:last].unique().drop_null())
        rows = self._plan.slice(start, num_rows)
        return ShardItem(recipe, request, _to_ipc(rows), _to_ipc(wanted.cast(ADDRESS_SCHEMA)))


def _array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays([pa.array([], column.type), *column.chunks])
    )


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_ipc(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
