"""AdamW without a schedule is the paper's: its three sequences, written out, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from free_sequences import Sequences

from weave_train.engine.schedule_free import ScheduleFreeAdamW, WeightAverage, averaged

WARM_UP = [0.01, 0.02, 0.03, *[0.03] * 9]


def loss(values: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """Not a quadratic, so that where a gradient is taken matters."""
    return ((values[0] @ values[1].tanh() - target) ** 2).sum() + values[1].cos().sum()


@pytest.mark.parametrize("rates", [WARM_UP, [0.05] * 10], ids=["warm-up", "constant"])
def test_steps_are_the_papers(rates: list[float]) -> None:
    generator = torch.Generator().manual_seed(5)
    first = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((4, 3), (3, 2))]
    target = torch.randn((4, 2), generator=generator, dtype=torch.float64)
    ours = [torch.nn.Parameter(value.clone()) for value in first]
    scales, decays = (1.0, 0.3), (0.1, 0.0)
    optimizer = ScheduleFreeAdamW(
        [{"params": [value], "weight_decay": decay} for value, decay in zip(ours, decays, strict=True)]
    )
    average = WeightAverage()
    expected = [Sequences(value) for value in first]
    for rate in rates:
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            group["lr"] = rate * scale
        average = average.after(rate)
        optimizer.set_share(average.share)
        optimizer.zero_grad()
        loss(ours, target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        points = [one.y.requires_grad_() for one in expected]
        gradients = torch.autograd.grad(loss(points, target), points)
        for one, gradient, scale, decay in zip(expected, gradients, scales, decays, strict=True):
            one.step(gradient, rate=rate * scale, step_rate=rate, weight_decay=decay)
        for value, one in zip(ours, expected, strict=True):
            state = optimizer.state[value]
            torch.testing.assert_close(value.detach(), one.y, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(state["z"], one.z, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(state["exp_avg_sq"], one.v, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(averaged(value.detach(), state["z"]), one.x, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(expected[0].x, expected[0].y, rtol=1e-3)


def test_the_mean_weighs_steps_by_the_squares_of_their_rates() -> None:
    average = WeightAverage()
    shares = [(average := average.after(rate)).share for rate in (1.0, 2.0, 2.0)]
    assert shares == pytest.approx([1.0, 4 / 5, 4 / 9])


def test_a_step_at_rate_zero_leaves_weights_and_mean_as_they_are() -> None:
    value = torch.nn.Parameter(torch.ones(3))
    optimizer = ScheduleFreeAdamW([{"params": [value], "lr": 0.0}])
    optimizer.set_share(WeightAverage().after(0.0).share)
    before = copy.deepcopy(value.detach())
    value.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(value.detach(), before)
    assert torch.equal(averaged(value.detach(), optimizer.state[value]["z"]), before)
