"""Intervals over seeds and videos, and p-values of several contrasts.

    scores of questions by seed and video -> resample seeds, then videos -> spread -> interval, p
    p of each contrast                    -> Holm

Seeds and videos are crossed: each seed's model is asked about the same videos. So a draw takes seeds with
replacement and, once for all of them, videos with replacement; drawing videos anew for every seed would
average away what the videos have in common.

Three or five seeds are few: quantiles of the draws are then too close together (with five seeds, a "95 %"
interval of seeds alone covers about 85 %). The draws therefore give the spread, Student's t the interval:
standard errors of seeds (with n - 1) and of videos (from the draws) add up in squares, degrees of freedom are
Satterthwaite's. Plain quantiles are reported beside it.

Source:
    Pigeonhole bootstrap: Owen, The pigeonhole bootstrap (2007). Differs: spread from the draws, quantiles
    from Student's t. Correction: Holm, A simple sequentially rejective multiple test procedure (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "bootstrap_interval", "holm"]

Array = NDArray[np.float64]
_CHUNK = 500


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and videos, and how far it can be trusted.

    Attributes:
        mean: Over seeds, each seed's mean over its questions.
        low: By Student's t; None where nothing varies that could be resampled.
        high: Likewise.
        quantile_low: Of the draws.
        quantile_high: Of the draws.
        seed_error: Standard error from seeds; None with a single seed, whose spread is not known.
        video_error: Standard error from videos.
        freedom: Degrees of freedom.
        p: Two-sided, that the mean is 0; None without a spread.
    """

    mean: float
    low: float | None
    high: float | None
    quantile_low: float | None
    quantile_high: float | None
    seed_error: float | None
    video_error: float
    freedom: float | None
    p: float | None


def bootstrap_interval(
    sums: Array, counts: Array, *, draws: int = 10_000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Resample seeds, then videos.

    Args:
        sums: float64[seeds, videos], scores summed over the questions of a video.
        counts: float64[videos], those questions; at least one each, the same for every seed.
        draws: Resamples.
        seed: Of the resampling; equal inputs give equal intervals.
        level: Of the interval.
    """
    from scipy import stats

    num_seeds, num_videos = sums.shape
    by_seed = sums.sum(axis=1) / counts.sum()
    mean = float(by_seed.mean())
    both, videos_alone = _draws(sums, counts, draws=draws, seed=seed)
    video_error = float(videos_alone.std()) if num_videos > 1 else 0.0
    seed_error = float(by_seed.std(ddof=1)) / math.sqrt(num_seeds) if num_seeds > 1 else None
    spread = math.hypot(seed_error or 0.0, video_error)
    if spread <= 1e-12:
        return Interval(mean, None, None, None, None, seed_error, video_error, None, None)
    from_seeds = (seed_error or 0.0) ** 4 / max(1, num_seeds - 1)
    from_videos = video_error**4 / max(1, num_videos - 1)
    freedom = spread**4 / (from_seeds + from_videos)
    reach = float(stats.t.ppf(0.5 + level / 2, freedom)) * spread
    tail = (1 - level) / 2
    quantile_low, quantile_high = (float(value) for value in np.quantile(both, [tail, 1 - tail]))
    return Interval(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        quantile_low=quantile_low,
        quantile_high=quantile_high,
        seed_error=seed_error,
        video_error=video_error,
        freedom=freedom,
        p=float(2 * stats.t.sf(abs(mean) / spread, freedom)),
    )


def _draws(sums: Array, counts: Array, *, draws: int, seed: int) -> tuple[Array, Array]:
    """Means of resampled seeds and videos, and of all seeds with resampled videos.

    Returns:
        Two of float64[draws].
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    num_seeds, num_videos = sums.shape
    both, videos_alone = np.empty(draws), np.empty(draws)
    for start in range(0, draws, _CHUNK):
        stop = min(start + _CHUNK, draws)
        videos_drawn = _times_drawn(rng, num_videos, stop - start)
        by_seed = (videos_drawn @ sums.T) / (videos_drawn @ counts)[:, None]
        seeds_drawn = _times_drawn(rng, num_seeds, stop - start)
        both[start:stop] = (by_seed * seeds_drawn).sum(axis=1) / num_seeds
        videos_alone[start:stop] = by_seed.mean(axis=1)
    return both, videos_alone


def _times_drawn(rng: np.random.Generator, count: int, draws: int) -> Array:
    """How often each of `count` things comes up in `count` tries: float64[draws, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given.

    None stays None and counts as one more hypothesis, not rejected: what is not known yet must not make
    what is known look better.

    [0.01, 0.04, 0.03] -> [0.03, 0.06, 0.06], [0.01, None, None] -> [0.03, None, None]
    """
    known = sorted((value, index) for index, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(values) - rank) * value))
        adjusted[index] = highest
    return adjusted
