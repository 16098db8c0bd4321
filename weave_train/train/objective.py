"""The loss of a global batch: a sum over all its supervised tokens, divided once, by their number.

    N                 supervised tokens of the global batch, all ranks, known before the first backward
    micro-step loss   sum over its tokens * R / N      R ranks; the engine averages gradients over ranks
    reported loss     all-reduced sum / N

Any split of a batch into ranks and micro-steps gives the same gradient within rounding. A rank with
fewer rows than others takes empty micro-steps, because the collectives of each need every rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from weave_data.errors import TrainingError
from weave_train.engine.engine import TrainEngine
from weave_train.launch import Launch
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import Batch, EncodedRow, collate, dummy_batch
from weave_train.train.nonfinite import NonFiniteError, describe, find_nonfinite, guarded_factor

__all__ = ["StepTotals", "micro_batches", "take_step"]


@dataclass(frozen=True)
class StepTotals:
    """Outcome of one optimizer step.

    Attributes:
        loss: Per supervised token.
        grad_norm: Before clipping.
        module_norms: The same by trained part; empty unless asked for.
        skip_reason: Why no weight was touched, if none was; else empty.
    """

    loss: float
    grad_norm: float
    module_norms: Mapping[str, float] = field(default_factory=dict)
    skip_reason: str = ""


def micro_batches(
    rows: Sequence[EncodedRow], *, micro_rows: int, num_micro_steps: int, vlm: VideoLanguageModel
) -> list[Batch]:
    """Cut a rank's rows into exactly `num_micro_steps` batches; those without rows are dummies."""
    pad_id: int = vlm.tokenizer.pad_token_id
    batches = [
        collate(rows[start : start + micro_rows], pad_id=pad_id) for start in range(0, len(rows), micro_rows)
    ]
    missing = num_micro_steps - len(batches)
    return batches + [dummy_batch(pad_id=pad_id, settings=vlm.settings)] * missing


def take_step(
    engine: TrainEngine,
    vlm: VideoLanguageModel,
    batches: Sequence[Batch],
    *,
    supervised_tokens: int,
    learning_rate: float,
    launch: Launch,
    with_module_norms: bool = False,
) -> StepTotals:
    """One optimizer step over a global batch; every rank passes the same number of micro-batches.

    Args:
        engine: Around `vlm.core`.
        vlm: Its tower encodes the frames, unless the engine's core does.
        batches: This rank's micro-steps.
        supervised_tokens: N of the global batch.
        learning_rate: Of this step.
        launch: World size and device.
        with_module_norms: Work out gradient norms by part, too; the same on every rank.

    Raises:
        TrainingError: N is 0.
        NonFiniteError: Loss or gradients are not finite on some rank; raised on all, no weight was touched.
    """
    if supervised_tokens == 0:
        raise TrainingError("a global batch without a single supervised token; its samples have no answer")
    total = torch.zeros((), dtype=torch.float64, device=launch.device)
    for index, batch in enumerate(batches):
        engine.mark_boundary(is_last=index == len(batches) - 1)
        on_device = batch.to(launch.device)
        loss_sum = engine.loss_sum(vlm.frozen_features(on_device), on_device)
        engine.backward(loss_sum * guarded_factor(loss_sum, launch.world_size / supervised_tokens))
        total += loss_sum.detach()
    if launch.world_size > 1:
        torch.distributed.all_reduce(total)
    loss = float(total) / supervised_tokens
    module_norms = engine.module_norms() if with_module_norms else {}
    grad_norm = engine.step(learning_rate)
    if not engine.was_skipped:
        return StepTotals(loss, grad_norm, module_norms)
    found = describe(find_nonfinite(engine, vlm, batches, launch=launch))
    what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
    raise NonFiniteError(f"{what}: {found}", loss=loss, grad_norm=grad_norm)
