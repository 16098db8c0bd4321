"""Averaged weights, clipping and pure bf16 do on many ranks what plain torch does on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from free_sequences import Sequences
from precision_cases import FREE, PURE, ROWS, read_held, run_cases
from precision_ranks import Case
from step_ranks import build, make_rows

from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import Batch, collate

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

RATE = 1e-3
WARM_UP = [RATE / 2, RATE, RATE, RATE]
SMALL_RATE = 1e-5  # less than bf16 resolves of most weights
WEIGHT_DECAY, MAX_GRAD_NORM = 0.1, 1.0  # of `step_ranks.settings_of`
Values = Mapping[str, torch.Tensor]


def whole_batch() -> tuple[VideoLanguageModel, Batch]:
    vlm = build("finetune")
    rows = make_rows(vlm)
    indices = [index for part in ROWS for index in part]
    return vlm, collate([rows[index] for index in indices], pad_id=vlm.tokenizer.pad_token_id)


def loss_of(vlm: VideoLanguageModel, batch: Batch) -> torch.Tensor:
    loss: torch.Tensor = vlm.core(vlm.frozen_features(batch), batch) / batch.num_supervised
    return loss


def trained(vlm: VideoLanguageModel) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}


def distance(ours: Values, theirs: Values) -> float:
    assert ours.keys() == theirs.keys()
    apart = [ours[name].double() - theirs[name].double().view(-1) for name in theirs]
    return float(torch.cat([value.view(-1) for value in apart]).norm())


def length(values: Values) -> float:
    return float(torch.cat([value.double().view(-1) for value in values.values()]).norm())


def split(held: Values) -> dict[str, dict[str, torch.Tensor]]:
    """Weights under the empty name, states under theirs."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in held.items():
        state, _, name = key.rpartition("/")
        parts.setdefault(state, {})[name] = value
    return parts


@cache
def averaging() -> dict[str, Any]:
    """Schedule-free AdamW in plain torch: y, z, x, v and where they began; losses at y, and at the last x."""
    vlm, batch = whole_batch()
    parameters = trained(vlm)
    first = {name: value.detach().clone() for name, value in parameters.items()}
    sequences = {name: Sequences(value) for name, value in first.items()}
    losses = []
    for rate in WARM_UP:
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(sequences[name].y)
        vlm.core.zero_grad()
        loss = loss_of(vlm, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_GRAD_NORM)
        for name, value in parameters.items():
            decay = WEIGHT_DECAY if value.ndim >= 2 and not name.endswith(".bias") else 0.0
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            sequences[name].step(gradient, rate=rate, step_rate=rate, weight_decay=decay)
    with torch.no_grad():
        at_y = float(loss_of_values(vlm, batch, {name: one.y for name, one in sequences.items()}))
        at_x = float(loss_of_values(vlm, batch, {name: one.x for name, one in sequences.items()}))
    return {
        "first": first,
        "y": {name: one.y for name, one in sequences.items()},
        "z": {name: one.z for name, one in sequences.items()},
        "v": {name: one.v for name, one in sequences.items()},
        "losses": losses,
        "at_y": at_y,
        "at_x": at_x,
    }


def loss_of_values(vlm: VideoLanguageModel, batch: Batch, values: Values) -> torch.Tensor:
    for name, value in trained(vlm).items():
        value.copy_(values[name])
    return loss_of(vlm, batch)


@cache
def clipping() -> tuple[float, dict[str, torch.Tensor]]:
    """A tenth of the gradient's norm, and the gradient clipped to it by torch."""
    vlm, batch = whole_batch()
    loss_of(vlm, batch).backward()  # type: ignore[no-untyped-call]
    parameters = trained(vlm)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), float("inf")))
    torch.nn.utils.clip_grad_norm_(parameters.values(), 0.1 * norm)
    return 0.1 * norm, {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in parameters.items()
    }


def free(zero: int, *, offload: bool = False) -> Case:
    name = f"free-{zero}{'-offload' * offload}"
    return Case(name, zero, ROWS, WARM_UP, offload=offload, engine=FREE)


def clipped(zero: int) -> Case:
    return Case(f"clipped-{zero}", zero, ROWS, [RATE], engine={"max_grad_norm": clipping()[0]})


def narrow(zero: int, masters: str) -> Case:
    engine = PURE if masters == "bf16" else {}
    return Case(f"{masters}-{zero}", zero, ROWS, [SMALL_RATE], precision="bf16", engine=engine)


def check_average(case: Case, reports: Sequence[dict[str, Any]], directory: Path) -> None:
    expected = averaging()
    parts = split(read_held(case, directory))
    assert parts.keys() == {"", "z", "exp_avg_sq"}
    for ours, theirs in ((parts[""], "y"), (parts["z"], "z")):
        moved = distance(
            {name: value.view(-1) for name, value in expected[theirs].items()}, expected["first"]
        )
        assert distance(ours, expected[theirs]) < 1e-2 * moved
    assert distance(parts["exp_avg_sq"], expected["v"]) < 1e-3 * length(expected["v"])
    for report in reports:
        assert [step["loss"] for step in report["steps"]] == pytest.approx(expected["losses"], rel=1e-5)
        assert report["averaged_loss"] == pytest.approx(expected["at_x"], rel=1e-5)
        assert abs(report["averaged_loss"] - expected["at_y"]) > 1e-3 * expected["at_y"]


def check_clipped(case: Case, directory: Path) -> None:
    """AdamW's states after its first step are the gradient's tenth and the thousandth of its square."""
    parts = split(read_held(case, directory))
    _, gradient = clipping()
    tenth = {name: 0.1 * value for name, value in gradient.items()}
    assert distance(parts["exp_avg"], tenth) < 1e-5 * length(tenth)
    thousandth = {name: 0.001 * value**2 for name, value in gradient.items()}
    assert distance(parts["exp_avg_sq"], thousandth) < 1e-4 * length(thousandth)


QUICK = [free(3), narrow(2, "bf16"), narrow(2, "fp32")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("precision")


@pytest.fixture(scope="module")
def quick(directory: Path) -> dict[str, list[dict[str, Any]]]:
    return run_cases([*QUICK, clipped(2)], directory)


def test_averaged_weights_on_two_ranks_are_the_papers(quick, directory) -> None:
    check_average(QUICK[0], quick["free-3"], directory)


def test_gradients_are_clipped_to_the_norm_as_torch_does(quick, directory) -> None:
    check_clipped(clipped(2), directory)


def test_masters_are_fp32_under_bf16_and_take_steps_that_bf16_would_round_away(quick) -> None:
    for report in quick["fp32-2"]:
        assert report["dtypes"] == ["torch.float32"]
        assert not report["bf16_gradients"]
        assert report["moved"] > 0.9


def test_only_the_name_bf16_gives_masters_states_and_gradients_in_bf16(quick) -> None:
    for report in quick["bf16-2"]:
        assert report["dtypes"] == ["torch.bfloat16"]
        assert report["bf16_gradients"]
        assert report["moved"] < 0.5


@pytest.mark.slow
def test_averaging_clipping_and_masters_in_every_zero_stage(tmp_path) -> None:
    averaged = [*(free(zero) for zero in range(4)), free(3, offload=True)]
    cut = [clipped(zero) for zero in range(4)]
    wide = [narrow(zero, masters) for zero in (1, 2, 3) for masters in ("fp32", "bf16")]
    reports = run_cases([*averaged, *cut, *wide], tmp_path)
    for case in averaged:
        check_average(case, reports[case.name], tmp_path)
    for case in cut:
        check_clipped(case, tmp_path)
    for case in wide:
        masters = "bfloat16" if case.engine else "float32"
        assert all(report["dtypes"] == [f"torch.{masters}"] for report in reports[case.name])
        assert all(report["bf16_gradients"] == bool(case.engine) for report in reports[case.name])


@pytest.mark.slow
def test_averaged_weights_of_one_process_are_the_papers(tmp_path) -> None:
    case = Case("free-alone", 0, [[*ROWS[0], *ROWS[1]]], WARM_UP, num_micro_steps=4, engine=FREE)
    check_average(case, run_cases([case], tmp_path)[case.name], tmp_path)
