"""One shard, as an executor runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.shard import ADDRESS_SCHEMA, ShardReceipt, ShardRequest, write_shard
from weave_data.storage import Store

__all__ = ["ShardItem", "ShardOutcome", "ShardWork", "shard_item"]


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


def shard_item(recipe: str, request: ShardRequest, plan: pa.Table, addresses: pa.Table) -> ShardItem:
    """Join a plan slice with the addresses of its clips.

    Args:
        recipe: Name, for the receipt.
        request: Which shard.
        plan: The slice's rows.
        addresses: Address table of the whole build, `ADDRESS_SCHEMA`.
    """
    clip_ids = pc.struct_field(pc.list_flatten(plan["clips"]), "clip_id")
    wanted = addresses.filter(pc.is_in(addresses["clip_id"], value_set=clip_ids.combine_chunks()))
    return ShardItem(recipe, request, _to_ipc(plan), _to_ipc(wanted.cast(ADDRESS_SCHEMA)))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_ipc(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
