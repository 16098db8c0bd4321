"""Learning rates."""

from __future__ import annotations

import itertools
import math

import pytest

from weave_train.train.schedule import learning_rate_at


def rates(schedule: str, *, num_steps: int = 100, warmup_ratio: float = 0.1) -> list[float]:
    return [
        learning_rate_at(step, schedule=schedule, peak=2.0, num_steps=num_steps, warmup_ratio=warmup_ratio)
        for step in range(num_steps)
    ]


@pytest.mark.parametrize("schedule", ["linear-warmup+cosine-decay", "linear-warmup+linear-decay"])
def test_rates_rise_to_the_peak_and_fall_towards_zero(schedule) -> None:
    values = rates(schedule)
    assert values[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert max(values) == 2.0
    assert all(later < earlier for earlier, later in itertools.pairwise(values[10:]))
    assert 0 < values[-1] < 0.05


def test_the_shapes_are_a_cosine_and_a_line() -> None:
    assert rates("linear-warmup+cosine-decay")[55] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates("linear-warmup+linear-decay")[55] == pytest.approx(1.0)


def test_a_run_without_warm_up_begins_at_the_peak() -> None:
    assert rates("linear-warmup+cosine-decay", num_steps=5, warmup_ratio=0.1)[0] == 2.0


@pytest.mark.parametrize("schedule", ["constant", "schedule_free_adamw"])
def test_a_rate_that_does_not_decay_rises_to_the_peak_and_stays(schedule) -> None:
    values = rates(schedule)
    assert values[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert values[10:] == [2.0] * 90
