"""Schedule-free AdamW as the paper writes it down: z, x and y apart, nothing saved or reused."""

from __future__ import annotations

import torch

__all__ = ["Sequences"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Sequences:
    """z, x and v of one parameter.

    Args:
        value: Where it begins.

    Source:
        Defazio et al., The Road Less Scheduled (arXiv 2405.15682), algorithm 1, with the mean weighted by
        squared learning rates (section 4.2).
    """

    def __init__(self, value: torch.Tensor) -> None:
        self.z, self.x = value.clone(), value.clone()
        self.v = torch.zeros_like(value)
        self._t = 0
        self._sum_of_squared_rates = 0.0

    @property
    def y(self) -> torch.Tensor:
        """Where the gradient is taken."""
        return (1 - BETA1) * self.z + BETA1 * self.x

    def step(self, gradient: torch.Tensor, *, rate: float, step_rate: float, weight_decay: float) -> None:
        """One step.

        Args:
            gradient: At y.
            rate: Of this parameter.
            step_rate: Of the step, whatever the parameter's share of it: the mean weighs by it.
            weight_decay: At y.
        """
        self._t += 1
        self._sum_of_squared_rates += step_rate**2
        share = step_rate**2 / self._sum_of_squared_rates
        y = self.y
        self.v = BETA2 * self.v + (1 - BETA2) * gradient**2
        scaled = gradient / ((self.v / (1 - BETA2**self._t)).sqrt() + EPSILON)
        self.z = self.z - rate * (scaled + weight_decay * y)
        self.x = (1 - share) * self.x + share * self.z
