"""Intervals cover what they say, on data whose truth is known; Holm agrees with its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_train.sweep.statistics import bootstrap_interval, holm


def crossed(
    rng: np.random.Generator, *, seeds: int, videos: int, seed_sd: float, video_sd: float, sd: float
) -> np.ndarray:
    """Differences with mean 0: what a seed, a video and a pair of both add."""
    return (
        rng.normal(0, seed_sd, (seeds, 1))
        + rng.normal(0, video_sd, (1, videos))
        + rng.normal(0, sd, (seeds, videos))
    )


def coverage(repeats: int = 300, **world: float) -> tuple[float, float, float]:
    """Shares of worlds whose truth, 0, lies in the interval, in the plain quantiles; and with p < 0.05."""
    rng = np.random.default_rng(11)
    inside, within_quantiles, significant = 0, 0, 0
    for repeat in range(repeats):
        sums = crossed(rng, **world)  # type: ignore[arg-type]
        found = bootstrap_interval(sums, np.ones(sums.shape[1]), draws=300, seed=repeat)
        assert found.low is not None
        inside += found.low <= 0 <= found.high
        within_quantiles += found.quantile_low <= 0 <= found.quantile_high
        significant += found.p < 0.05
    return inside / repeats, within_quantiles / repeats, significant / repeats


WORLDS = {
    "seeds alone": {"seeds": 5, "videos": 60, "seed_sd": 0.3, "video_sd": 0.0, "sd": 0.1},
    "videos alone": {"seeds": 5, "videos": 60, "seed_sd": 0.0, "video_sd": 1.0, "sd": 0.3},
    "both": {"seeds": 5, "videos": 60, "seed_sd": 0.1, "video_sd": 0.8, "sd": 0.5},
    "three seeds": {"seeds": 3, "videos": 60, "seed_sd": 0.3, "video_sd": 0.5, "sd": 0.5},
}


@pytest.mark.parametrize("name", WORLDS)
def test_an_interval_of_95_percent_covers_the_truth_that_often(name: str) -> None:
    inside, _, significant = coverage(**WORLDS[name])
    assert 0.92 <= inside <= 0.995
    assert significant == pytest.approx(1 - inside)


def test_quantiles_alone_cover_too_little_with_five_seeds() -> None:
    inside, within_quantiles, _ = coverage(**WORLDS["seeds alone"])
    assert within_quantiles < 0.9 < inside


def test_videos_drawn_anew_for_every_seed_would_hide_what_videos_have_in_common() -> None:
    rng = np.random.default_rng(5)
    sums = crossed(rng, seeds=5, videos=60, seed_sd=0.0, video_sd=1.0, sd=0.0)
    apart = np.array([np.mean([rng.choice(row, row.size).mean() for row in sums]) for _ in range(2000)]).std()
    ours = bootstrap_interval(sums, np.ones(60), draws=2000).video_error
    truth = 1 / math.sqrt(60)
    assert ours == pytest.approx(truth, rel=0.25)
    assert apart < 0.6 * truth


def test_draws_are_those_of_a_loop_that_resamples_rows() -> None:
    rng = np.random.default_rng(2)
    counts = np.array([1.0, 3.0, 2.0, 1.0, 5.0])
    scores = [[rng.random(int(count)) for count in counts] for _ in range(4)]
    sums = np.array([[values.sum() for values in row] for row in scores])
    means = []
    for _ in range(20_000):
        seeds, videos = rng.integers(0, 4, 4), rng.integers(0, 5, 5)
        means.append(
            np.mean([np.concatenate([scores[seed][video] for video in videos]).mean() for seed in seeds])
        )
    found = bootstrap_interval(sums, counts, draws=20_000)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.quantile_low == pytest.approx(low, abs=0.01)
    assert found.quantile_high == pytest.approx(high, abs=0.01)
    assert found.mean == pytest.approx(np.mean([np.concatenate(row).mean() for row in scores]))


def test_equal_answers_give_equal_intervals() -> None:
    sums = crossed(np.random.default_rng(1), seeds=3, videos=9, seed_sd=1, video_sd=1, sd=1)
    assert bootstrap_interval(sums, np.ones(9)) == bootstrap_interval(sums, np.ones(9))
    assert bootstrap_interval(sums, np.ones(9), seed=1) != bootstrap_interval(sums, np.ones(9))


def test_one_seed_has_the_spread_of_its_videos_and_says_so() -> None:
    found = bootstrap_interval(np.random.default_rng(1).normal(size=(1, 50)), np.ones(50))
    assert found.seed_error is None
    assert found.freedom == pytest.approx(49)
    assert found.low < found.mean < found.high


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_nothing_varies_there_is_no_interval(value: float) -> None:
    found = bootstrap_interval(np.full((3, 4), value), np.ones(4))
    assert (found.mean, found.low, found.high, found.p) == (value, None, None, None)


P_VALUES = st.lists(st.none() | st.floats(0, 1), max_size=6)


@given(P_VALUES)
def test_holm_rejects_what_its_definition_rejects(values: list[float | None]) -> None:
    adjusted = holm(values)
    assert [value is None for value in values] == [value is None for value in adjusted]
    known = [value for value in values if value is not None]
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, value in enumerate(sorted(known)):  # step down until one is not small enough
            if value * (len(values) - rank) > level:
                break
            rejected.add(value)
        for value, corrected in zip(values, adjusted, strict=True):
            if value is not None:
                assert (corrected <= level) == (value in rejected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(values: list[float]) -> None:
    for index, corrected in enumerate(holm(values)):
        others = [other for other in range(len(values)) if other != index]
        subsets = [
            [index, *subset]
            for size in range(len(others) + 1)
            for subset in itertools.combinations(others, size)
        ]
        closed = max(min(1.0, len(subset) * min(values[each] for each in subset)) for subset in subsets)
        assert corrected == pytest.approx(closed)
