"""One shard, as an executor runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weave_data.shard import ShardReceipt, ShardRequest, write_shard
from weave_data.storage import Store

__all__ = ["ShardItem", "ShardOutcome", "ShardWork"]


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


def _from_ipc(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()
