"""What is known about one optimizer step, and about one validation pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["StepReport", "ValidationReport"]


@dataclass(frozen=True)
class ValidationReport:
    """One pass over held-out rows, all ranks together.

    Attributes:
        loss: Summed over all supervised tokens, divided by their number.
        supervised_tokens: That number.
        rows: Samples.
        seconds: Wall time.
    """

    loss: float
    supervised_tokens: int
    rows: int
    seconds: float = 0.0


@dataclass(frozen=True)
class StepReport:
    """One optimizer step. Counts and FLOPs are sums over ranks; times and memory are this rank's.

    Attributes:
        step: Counted from 1: steps taken.
        num_steps: Of the whole run.
        epoch: Counted from 0.
        loss: Per supervised token of the global batch.
        learning_rate: Of this step.
        grad_norm: Before clipping.
        step_seconds: Wall time, `data_wait_seconds` included.
        data_wait_seconds: This rank waited for rows.
        rows: Samples.
        tokens: Visual and text, padding not counted.
        supervised_tokens: Those that enter the loss.
        ledger: Hash chain over all sample ids so far.
        module_norms: Gradient norm before clipping by module; empty where it was not worked out.
        read_seconds: Spent reading row groups, summed over threads, beside the step and not in it.
        encode_seconds: Decoding JPEGs and tokenising, likewise.
        read_bytes: Read from the store.
        save_wait_seconds: This rank stood still for checkpoints since the step before; in no step's time.
        visual_tokens: Of `tokens`, those that are patches of frames.
        padded_tokens: Positions of the batches that hold no token.
        model_flops: See `flops`.
        hardware_flops: With what is computed again, padding and dummies.
        mfu: Model FLOPs a second over the peak of all ranks' devices; nan where it is not known.
        hfu: The same with hardware FLOPs.
        memory_bytes: See `memory.memory_bytes`.
        was_skipped: The weights were not touched: loss or gradients were not finite.
        skip_reason: Of which samples and part of the model; empty where it was not skipped.
        validation: A pass made after this step.
    """

    step: int
    num_steps: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    step_seconds: float
    data_wait_seconds: float
    rows: int
    tokens: int
    supervised_tokens: int
    ledger: str
    module_norms: Mapping[str, float] = field(default_factory=dict)
    read_seconds: float = 0.0
    encode_seconds: float = 0.0
    read_bytes: int = 0
    save_wait_seconds: float = 0.0
    visual_tokens: int = 0
    padded_tokens: int = 0
    model_flops: float = 0.0
    hardware_flops: float = 0.0
    mfu: float = math.nan
    hfu: float = math.nan
    memory_bytes: int = 0
    was_skipped: bool = False
    skip_reason: str = ""
    validation: ValidationReport | None = None
