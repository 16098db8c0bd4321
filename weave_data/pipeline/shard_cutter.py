"""A plan cut into shards, each with the addresses of its clips."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.pipeline.address_rows import AddressRows
from weave_data.shard import ShardRequest
from weave_data.tasks.shards import ShardItem

__all__ = ["ShardCutter"]


class ShardCutter:
    """Cuts a plan into shard items, each with the addresses of its clips.

    Rows are looked up once per plan; a shard then costs its own rows, however many clips the build has.

    Args:
        plan: PLAN_SCHEMA of one epoch.
        addresses: Address table of the whole build, `ADDRESS_SCHEMA` or with `frame_tar` coded; never copied.
    """

    def __init__(self, plan: pa.Table, addresses: pa.Table) -> None:
        self._plan = plan
        self._addresses = AddressRows(addresses)
        lists = plan["clips"].chunks
        clip_ids = pa.chunked_array([chunk.flatten().field("clip_id") for chunk in lists], pa.string())
        found = pc.index_in(clip_ids, value_set=addresses["clip_id"])
        self._rows = found.fill_null(-1).to_numpy()
        sizes = [chunk.value_lengths().to_numpy(zero_copy_only=False) for chunk in lists]
        self._offsets = np.cumsum(np.concatenate([[0], *sizes]))

    def item(self, recipe: str, request: ShardRequest, start: int, num_rows: int) -> ShardItem:
        """The shard of plan rows [start, start + num_rows).

        Args:
            recipe: Name, for the receipt.
            request: Which shard.
            start: First row.
            num_rows: How many.
        """
        wanted = self._rows[self._offsets[start] : self._offsets[start + num_rows]]
        addresses = self._addresses.take(np.unique(wanted[wanted >= 0]))
        rows = self._plan.slice(start, num_rows).combine_chunks()
        return ShardItem(recipe, request, _to_ipc(rows), _to_ipc(addresses))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
