"""Which samples and which part of the model made a step not finite.

A step whose gradients are not finite somewhere is discarded before a weight is touched: by DeepSpeed's
own check of the norm, all ranks alike (`TrainEngine.was_skipped`). A loss that is not finite makes its
micro-step's gradients NaN, so that this one check decides. Reduced gradients no longer tell where that
came from; so the step is repeated, once, with an eye on every micro-batch before gradients meet, and
discarded again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from weave_data.errors import TrainingError
from weave_train.engine.engine import TrainEngine
from weave_train.launch import Launch
from weave_train.models.model import VideoLanguageModel
from weave_train.models.parts import Part, part_of
from weave_train.rows.batch import Batch

__all__ = ["Finding", "NonFiniteError", "describe", "find_nonfinite", "guarded_factor"]

_MOST_NAMED = 8
_FLOW: tuple[Part, ...] = ("vision", "projector", "language")


@dataclass(frozen=True)
class Finding:
    """A micro-batch that is not finite.

    Attributes:
        rank: That had it.
        sample_ids: In it.
        loss: Its sum; not finite, or the gradients alone are not.
        activations: Parts whose outputs are not finite, in flow order.
        gradients: Parts with parameters whose gradients are not finite; not told where the loss is not,
            because then all are.
    """

    rank: int
    sample_ids: tuple[str, ...]
    loss: float
    activations: tuple[Part, ...]
    gradients: tuple[Part, ...]

    def describe(self) -> str:
        """One phrase for people."""
        named = ", ".join(self.sample_ids[:_MOST_NAMED]) or "no samples"
        more = ", ..." if len(self.sample_ids) > _MOST_NAMED else ""
        where = [
            f"{what} of {' and '.join(parts)}"
            for what, parts in (("activations", self.activations), ("gradients", self.gradients))
            if parts
        ]
        return f"rank {self.rank}: {named}{more} ({'; '.join(where) or f'loss {self.loss} of language'})"


class NonFiniteError(TrainingError):
    """A step was discarded on all ranks: weights, optimizer states and its step count are as before.

    Attributes:
        reason: Which samples, on which rank, and which parts of the model.
        loss: Of the step.
        grad_norm: Of the step.
    """

    def __init__(self, reason: str, *, loss: float, grad_norm: float) -> None:
        self.reason = reason
        self.loss = loss
        self.grad_norm = grad_norm
        super().__init__(
            f"{reason}; lower the learning rate, look at these samples, or leave such steps out with "
            "--watch.nonfinite skip"
        )


def guarded_factor(loss_sum: torch.Tensor, factor: float) -> torch.Tensor:
    """`factor`, or NaN where the loss is not finite: an infinite loss can have finite gradients."""
    return torch.where(loss_sum.detach().isfinite(), factor, math.nan)


def describe(findings: Sequence[Finding]) -> str:
    """One line for people."""
    if not findings:
        return "nothing was, when the step was repeated: a fault of a device, or another order of sums"
    return "; ".join(finding.describe() for finding in findings)


def find_nonfinite(
    engine: TrainEngine, vlm: VideoLanguageModel, batches: Sequence[Batch], *, launch: Launch
) -> list[Finding]:
    """Repeat a step that was skipped, and look; called on every rank alike. Nothing is updated.

    Args:
        engine: Around `vlm.core`.
        vlm: Whose parts are told apart.
        batches: Of the step, on this rank.
        launch: Rank, world size, device.

    Returns:
        Of all ranks, the same on each; empty if everything is finite this time.
    """
    found = []
    for index, batch in enumerate(batches):
        engine.mark_boundary(is_last=index == len(batches) - 1)
        on_device = batch.to(launch.device)
        with _watching(vlm) as (activations, gradients):
            loss_sum = engine.loss_sum(vlm.frozen_features(on_device), on_device)
            engine.backward(loss_sum)
        loss = float(loss_sum.detach())
        if activations or gradients or not math.isfinite(loss):
            found.append(
                Finding(
                    launch.rank,
                    tuple(batch.sample_ids),
                    loss,
                    tuple(part for part in _FLOW if part in activations),
                    tuple(part for part in _FLOW if part in gradients) if math.isfinite(loss) else (),
                )
            )
    engine.step(0.0)  # gradients are NaN: discarded
    if launch.world_size == 1:
        return found
    told: list[list[Finding]] = [[] for _ in range(launch.world_size)]
    torch.distributed.all_gather_object(told, found)
    return [finding for findings in told for finding in findings]


@contextmanager
def _watching(vlm: VideoLanguageModel) -> Iterator[tuple[set[Part], set[Part]]]:
    """Parts whose outputs, and whose parameters' gradients on this rank, are not finite in the block.

    All gradients become NaN after they were looked at.
    """
    activations: set[Part] = set()
    gradients: set[Part] = set()

    def watch_outputs(part: Part, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            tensor = getattr(output, "last_hidden_state", output)
            if isinstance(tensor, torch.Tensor) and not bool(tensor.isfinite().all()):
                activations.add(part)

        return module.register_forward_hook(look)

    def watch_gradient(part: Part, parameter: nn.Parameter) -> torch.utils.hooks.RemovableHandle:
        def look(gradient: torch.Tensor) -> torch.Tensor:
            if not bool(gradient.isfinite().all()):
                gradients.add(part)
            return torch.full_like(gradient, math.nan)

        return parameter.register_hook(look)

    language = vlm.core.language_model
    handles = [
        watch_outputs("vision", vlm.tower),
        watch_outputs("projector", vlm.core.projector),
        watch_outputs("language", language.base_model),
        watch_outputs("language", language.get_output_embeddings()),
    ]
    handles += [
        watch_gradient(part_of(name), value)
        for name, value in vlm.core.named_parameters()
        if value.requires_grad
    ]
    try:
        yield activations, gradients
    finally:
        for handle in handles:
            handle.remove()
