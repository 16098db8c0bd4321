"""A global batch counted over all ranks, in the step's one small all-reduce."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from weave_train.launch import Launch
from weave_train.numbers import Flops
from weave_train.rows.batch import Batch, EncodedRow
from weave_train.rows.prompt import VISUAL_TOKEN_ID

__all__ = ["BatchTotals", "RankState", "batch_totals", "ledger_entry"]

_NO_FLOPS = Flops()
_FLOPS_UNIT = 1e6  # sums of thousands of ranks stay inside it, too
_LEDGER_BITS = 40  # sums of 2**20 slots stay inside a signed 64-bit all-reduce


@dataclass(frozen=True)
class RankState:
    """What a rank tells the others: its rows could not be had, or it was asked to stop."""

    has_failed: bool = False
    stop_requested: bool = False


@dataclass(frozen=True)
class BatchTotals:
    """A global batch over all ranks.

    Attributes:
        rows: Samples.
        tokens: Tokens, visual and text, padding not counted.
        supervised_tokens: N.
        visual_tokens: Of `tokens`, those that are patches of frames.
        padded_tokens: Positions the language model computes in vain.
        ledger_sum: Order-aware sum over (slot, sample id), the same for any number of ranks.
        failed_ranks: Ranks that can't take this step.
        stop_requests: Ranks that were asked to stop after it.
        flops: What the batch takes.
    """

    rows: int
    tokens: int
    supervised_tokens: int
    visual_tokens: int
    padded_tokens: int
    ledger_sum: int
    failed_ranks: int
    stop_requests: int
    flops: Flops = _NO_FLOPS


def ledger_entry(slot: int, sample_id: str) -> int:
    """Contribution of one sample to its step's ledger sum."""
    digest = hashlib.blake2b(f"{slot}/{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (1 << _LEDGER_BITS)


def batch_totals(
    rows: Sequence[EncodedRow],
    slots: Sequence[int],
    batches: Sequence[Batch],
    *,
    state: RankState,
    launch: Launch,
    flops: Flops = _NO_FLOPS,
) -> BatchTotals:
    """Sum a step's rows over all ranks; one small all-reduce.

    Args:
        rows: This rank's.
        slots: Of the global batch, one for each row.
        batches: The same rows as micro-batches.
        state: Of this rank.
        launch: World size and device.
        flops: Of this rank's micro-batches.
    """
    tokens = sum(len(row.input_ids) for row in rows)
    local = [
        len(rows),
        tokens,
        sum(row.num_supervised for row in rows),
        sum(int((row.input_ids == VISUAL_TOKEN_ID).sum()) for row in rows),
        sum(batch.input_ids.numel() for batch in batches) - tokens,
        sum(ledger_entry(slot, row.sample_id) for slot, row in zip(slots, rows, strict=True)),
        int(state.has_failed),
        int(state.stop_requested),
        round(flops.model / _FLOPS_UNIT),
        round(flops.hardware / _FLOPS_UNIT),
    ]
    totals = torch.tensor(local, dtype=torch.int64, device=launch.device)
    if launch.world_size > 1:
        torch.distributed.all_reduce(totals)
    *counts, model_flops, hardware_flops = totals.tolist()
    summed = Flops(model_flops * _FLOPS_UNIT, hardware_flops * _FLOPS_UNIT)
    return replace(BatchTotals(*counts), flops=summed)
