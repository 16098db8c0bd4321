"""AdamW that needs no schedule: it averages its weights instead of letting the learning rate decay.

    z    plain AdamW's weights                       kept as an optimizer state
    x    weighted mean of all z so far               what is evaluated, exported and loaded
    y    (1 - beta1) z + beta1 x                     where gradients are taken: the engine's weights

x is not kept: it follows from y and z, so this takes no more memory than AdamW does. The weight of a
step in the mean is the square of the largest learning rate so far, hence small in the warm-up.

Source:
    Defazio et al., The Road Less Scheduled (arXiv 2405.15682), and the package `schedulefree` 1.4
    (`AdamWScheduleFree`, r = 0, weight decay at y). Differs: the step's share in the mean is one number
    for all groups, given from outside, because ZeRO-3 calls `step` once for each of its sub-groups.
    VideoWeave's `schedule_free_adamw` kept every rate at 0 and learnt nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, overload

import torch

__all__ = ["BETA1", "ScheduleFreeAdamW", "WeightAverage", "averaged"]

BETA1 = 0.9
_BETA2 = 0.999
_EPSILON = 1e-8
_SHARE = "average_share"


@dataclass(frozen=True)
class WeightAverage:
    """What the mean of the weights has seen; equal on all ranks.

    Attributes:
        max_rate: Largest learning rate of a step.
        sum_of_shares: Of the steps' unnormalised weights in the mean.
    """

    max_rate: float = 0.0
    sum_of_shares: float = 0.0

    def after(self, learning_rate: float) -> WeightAverage:
        """One more step at this rate."""
        max_rate = max(self.max_rate, learning_rate)
        return WeightAverage(max_rate, self.sum_of_shares + max_rate**2)

    @property
    def share(self) -> float:
        """Of the last step in the mean: 1 at the first, 1/t where the rate is constant."""
        return self.max_rate**2 / self.sum_of_shares if self.sum_of_shares > 0 else 0.0


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Takes parameters as y; see the module. States per parameter: `step`, `z`, `exp_avg_sq`.

    Args:
        groups: Parameter groups with `weight_decay`; each step needs their `lr`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, _SHARE: 0.0})

    def set_share(self, share: float) -> None:
        """Say what `WeightAverage.share` of the next step is."""
        for group in self.param_groups:
            group[_SHARE] = share

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient; gradients are overwritten."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return None

    def _update(self, y: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[y]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["z"] = torch.clone(y, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(y, memory_format=torch.preserve_format)
        state["step"] += 1
        z, squares, direction = state["z"], state["exp_avg_sq"], y.grad
        assert direction is not None
        rate, share = group["lr"], group[_SHARE]
        squares.mul_(_BETA2).addcmul_(direction, direction, value=1 - _BETA2)
        correction = 1 - _BETA2 ** float(state["step"])
        direction.div_(squares.div(correction).sqrt_().add_(_EPSILON))
        if group["weight_decay"]:
            direction.add_(y, alpha=group["weight_decay"])
        y.lerp_(z, weight=share).add_(direction, alpha=rate * (BETA1 * (1 - share) - 1))
        z.sub_(direction, alpha=rate)


def averaged(y: torch.Tensor, z: torch.Tensor, *, beta1: float = BETA1) -> torch.Tensor:
    """x from y and z; all of one shape and dtype."""
    return y.lerp(z, weight=1 - 1 / beta1)
