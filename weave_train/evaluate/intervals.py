"""Intervals of mean scores: a percentile bootstrap over videos, because questions about one video are alike.

The same answers give the same interval: draws come from a stream that the number of videos seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "mean_interval", "paired_difference"]

NUM_DRAWS = 2000
_SEED = 20260109


@dataclass(frozen=True)
class Interval:
    """A mean, and where 95 of 100 such means lie."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Plain dict."""
        return asdict(self)


def mean_interval(values: Sequence[float], groups: Sequence[str], *, num_draws: int = NUM_DRAWS) -> Interval:
    """Mean of values with an interval that draws whole groups.

    Args:
        values: n of them, at least 1.
        groups: The video of each.
        num_draws: Of the bootstrap.

    Raises:
        ValueError: There is no value, or another number of groups.
    """
    sums, counts = _by_group(values, groups)
    means = _drawn_means(sums, counts, num_draws)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], groups: Sequence[str], *, num_draws: int = NUM_DRAWS
) -> tuple[Interval, float]:
    """Mean of `ours - theirs` over the same questions, and a two-sided p-value.

    Args:
        ours: n scores.
        theirs: Of the same questions in the same order.
        groups: The video of each.
        num_draws: Of the bootstrap.

    Returns:
        The interval, and p: twice the smaller share of draws on one side of zero, at least 1 / (draws + 1).
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    sums, counts = _by_group(differences, groups)
    means = _drawn_means(sums, counts, num_draws)
    low, high = np.quantile(means, (0.025, 0.975))
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (num_draws + 1))
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high)), p_value


def _by_group(
    values: Sequence[float], groups: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if len(values) != len(groups) or not values:
        raise ValueError(f"{len(values)} values and {len(groups)} groups; both must be the same, at least 1")
    _, places = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    weights = np.asarray(values, dtype=np.float64)
    sums = np.bincount(places, weights=weights).astype(np.float64)
    return sums, np.bincount(places).astype(np.float64)


def _drawn_means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], num_draws: int
) -> npt.NDArray[np.float64]:
    """float64[num_draws]: means over as many groups as there are, drawn with replacement."""
    random = np.random.default_rng((_SEED, len(sums)))
    means = np.empty(num_draws)
    for draw in range(num_draws):  # not at once: 2,000 draws of 100,000 videos would be gigabytes
        drawn = random.integers(0, len(sums), len(sums))
        means[draw] = sums[drawn].sum() / counts[drawn].sum()
    return means
