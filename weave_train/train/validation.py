"""Loss on held-out rows: a sum over all their supervised tokens, divided once, all ranks together.

Rows are split among the ranks, and the sum does not depend on how. Every rank makes the same number of
forward passes, dummies where it has no rows left, because ZeRO-3's collectives need every rank.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from weave_data.errors import TrainingError, WeaveError
from weave_train.config import PretrainConfig
from weave_train.engine.engine import TrainEngine
from weave_train.feed import FeedLimits, RowFeed, RowSource
from weave_train.launch import Launch
from weave_train.models.model import VideoLanguageModel
from weave_train.numbers import ValidationReport
from weave_train.order import BatchOrder
from weave_train.rows.batch import EncodedRow
from weave_train.train.agreement import raise_together
from weave_train.train.objective import micro_batches
from weave_train.train.validation_order import ValidationOrder

__all__ = ["ValidationSet", "is_validation_step", "validate", "validation_set"]


@dataclass(frozen=True)
class ValidationSet:
    """What a run validates on.

    Attributes:
        source: Of the rows.
        order: Which of them, by rank and step.
        encode: As in training.
        limits: Of the feed that each pass opens and closes.
    """

    source: RowSource
    order: ValidationOrder
    encode: Callable[[Mapping[str, Any]], EncodedRow]
    limits: FeedLimits


def validation_set(
    source: RowSource,
    *,
    config: PretrainConfig,
    encode: Callable[[Mapping[str, Any]], EncodedRow],
    limits: FeedLimits,
    rank_rows: int,
    world_size: int,
) -> ValidationSet:
    """Say what a run validates on: the first `val_max_rows` rows of the first stored epoch.

    Args:
        source: Opened `config.validation_dataset`.
        config: `val_max_rows` is used.
        encode: Of the training feed.
        limits: Of the training feed.
        rank_rows: Rows of a micro-step.
        world_size: Ranks.

    Raises:
        ConfigError: There are no rows.
    """
    order = ValidationOrder(
        source.shard_rows[0],
        group_rows=source.group_rows,
        rank_rows=rank_rows,
        world_size=world_size,
        max_rows=config.val_max_rows,
    )
    return ValidationSet(source, order, encode, limits)


def is_validation_step(step: int, *, every: int | None, num_steps: int, order: BatchOrder) -> bool:
    """Whether a pass follows that many steps: every so many, or at an epoch's end; always at the end.

    Args:
        step: Steps taken, at least 1.
        every: `val_every_steps`.
        num_steps: Of the whole run.
        order: Of the training rows.
    """
    if step == num_steps:
        return True
    return step % every == 0 if every is not None else order.locate(step)[1] == 0


def validate(
    rows: ValidationSet,
    *,
    engine: TrainEngine,
    vlm: VideoLanguageModel,
    launch: Launch,
    on_step: Callable[[list[EncodedRow]], None] | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ValidationReport | None:
    """Make one pass; called on every rank alike. Weights and gradients stay as they are.

    Args:
        rows: What is validated on.
        engine: Around `vlm.core`.
        vlm: In any mode; in eval mode while this runs.
        launch: Rank, world size and device.
        on_step: Told this rank's rows before each forward pass, for a watchdog.
        is_stopping: Whether this rank was asked to stop.

    Returns:
        None where some rank was asked to stop before the last pass: on every rank.

    Raises:
        WeaveError: Rows can't be had, on this rank or another.
        TrainingError: No token is supervised, or the loss is not finite.
    """
    begin = time.perf_counter()
    num_steps = rows.order.num_steps()
    size = rows.order.batch_rows // launch.world_size
    feed = RowFeed(
        [rows.source],
        rows.order,
        slots=range(launch.rank * size, (launch.rank + 1) * size),
        encode=rows.encode,
        stop_step=num_steps,
        limits=rows.limits,
    )
    # loss sum, supervised tokens, rows
    totals = torch.zeros(3, dtype=torch.float64, device=launch.device)
    was_training = vlm.core.training
    vlm.core.eval()
    try:
        with torch.no_grad():
            for step in range(num_steps):
                taken, is_over = _take(feed, step, launch, is_stopping=is_stopping())
                if is_over:
                    return None
                if on_step is not None:
                    on_step(taken)
                totals += _sums(taken, engine=engine, vlm=vlm, launch=launch, rank_rows=size)
    finally:
        vlm.core.train(was_training)
        feed.close()
    if launch.world_size > 1:
        torch.distributed.all_reduce(totals)
    loss_sum, supervised, num_rows = totals.tolist()
    if not supervised or not math.isfinite(loss_sum):
        raise TrainingError(
            f"validation: the loss of {num_rows:.0f} rows is {loss_sum} over {supervised:.0f} supervised "
            "tokens; look at the rows of val_dataset, or lower the learning rate"
        )
    return ValidationReport(
        loss=loss_sum / supervised,
        supervised_tokens=int(supervised),
        rows=int(num_rows),
        seconds=time.perf_counter() - begin,
    )


def _take(
    feed: RowFeed[EncodedRow], step: int, launch: Launch, *, is_stopping: bool
) -> tuple[list[EncodedRow], bool]:
    """Rows of a step, once every rank has its own, and whether some rank is to stop."""
    failure: WeaveError | None = None
    taken: list[EncodedRow] = []
    try:
        taken = feed.batch(step)
    except WeaveError as error:
        failure = error
    counts = torch.tensor([int(failure is not None), int(is_stopping)], device=launch.device)
    if launch.world_size > 1:
        torch.distributed.all_reduce(counts)
    num_failed, num_stopping = counts.tolist()
    if num_failed:
        raise_together(failure, launch)
    return taken, num_stopping > 0


def _sums(
    taken: list[EncodedRow], *, engine: TrainEngine, vlm: VideoLanguageModel, launch: Launch, rank_rows: int
) -> torch.Tensor:
    (batch,) = micro_batches(taken, micro_rows=rank_rows, num_micro_steps=1, vlm=vlm)
    on_device = batch.to(launch.device)
    loss_sum = engine.loss_sum(vlm.frozen_features(on_device), on_device)
    counts = loss_sum.new_tensor([batch.num_supervised, len(taken)], dtype=torch.float64)
    return torch.cat([loss_sum.double().view(1), counts])
