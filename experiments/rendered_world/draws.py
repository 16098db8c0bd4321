"""Random numbers of one index: neither order nor workers nor other indices can change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["STREAMS", "Draws"]

STREAMS = (
    "clips",
    "questions on clips",
    "films",
    "questions on films",
    "single frames",
    "captions in other words",
)
"""What indices are counted in; no stream shares a number with another, whatever their seeds."""

T = TypeVar("T")


class Draws:
    """Draws of one index.

    Args:
        seed: Of the data set, at least 0.
        stream: One of `STREAMS`.
        index: At least 0.
        attempt: Raised by one each time that a draw was thrown away.
    """

    def __init__(self, seed: int, stream: str, index: int, *, attempt: int = 0) -> None:
        words = np.random.SeedSequence([STREAMS.index(stream), seed, index, attempt])
        self._random = np.random.Generator(np.random.Philox(words))

    def between(self, low: float, high: float) -> float:
        """A number, uniform."""
        return float(self._random.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A whole number, uniform, both ends possible."""
        return int(self._random.integers(low, high + 1))

    def one(self, items: Sequence[T]) -> T:
        """One of them, uniform."""
        return items[int(self._random.integers(len(items)))]

    def some(self, items: Sequence[T], count: int) -> tuple[T, ...]:
        """`count` different ones, in random order."""
        return tuple(items[int(i)] for i in self._random.permutation(len(items))[:count])

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of them, by weights that add up to 1."""
        return items[int(self._random.choice(len(items), p=list(weights)))]

    def log_normal(self, median: float, sigma: float) -> float:
        """A number whose logarithm is normal."""
        return median * float(np.exp(sigma * self._random.standard_normal()))

    def is_so(self, chance: float) -> bool:
        """True with that chance."""
        return float(self._random.uniform()) < chance
