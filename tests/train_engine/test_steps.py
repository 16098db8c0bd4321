"""One step is one step: on any number of ranks, in any micro-steps, ZeRO stage and training stage.

Reference: the whole batch at once in plain torch, fp32. Each start of ranks takes all its cells.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from step_ranks import NUM_ROWS, Cell, build, make_rows

from weave_train.engine.stages import trained_parts
from weave_train.models.parts import part_of
from weave_train.plugin import run_ranks
from weave_train.rows.batch import collate

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

STAGES = ("align", "finetune", "full-finetune")
EIGHT = list(range(8))
TEXT, SHOWN = [0, 2, 4, 6], [1, 3, 5, 7]
_REPOSITORY = Path(__file__).parents[2]
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": f"{_REPOSITORY}:{_REPOSITORY / 'tests'}",
}


@dataclass(frozen=True)
class Outcome:
    """Of one cell: what rank 0 reported, gradients of all ranks put together, flat, and by rank."""

    first: dict[str, Any]
    gradients: dict[str, torch.Tensor]
    supervised: list[int]


def run_cells(cells: Sequence[Cell], directory: Path) -> dict[str, Outcome]:
    num_ranks = len(cells[0].rank_rows)
    assert {len(cell.rank_rows) for cell in cells} == {num_ranks}
    path = directory / "cells.json"
    path.write_text(json.dumps([asdict(cell) for cell in cells]))
    script = str(Path(__file__).parent / "step_ranks.py")
    code = run_ranks(
        [sys.executable, script, str(path), str(directory)], num_ranks=num_ranks, environment=_ENVIRONMENT
    )
    assert code == 0
    return {cell.name: read_outcome(directory, cell) for cell in cells}


def read_outcome(directory: Path, cell: Cell) -> Outcome:
    shapes = {name: value.numel() for name, value in reference(cell.stage, tuple(EIGHT))[1].items()}
    gradients = {name: torch.full((numel,), float("nan")) for name, numel in shapes.items()}
    reports = []
    for rank in range(len(cell.rank_rows)):
        for key, value in load_file(directory / f"{cell.name}-{rank}.safetensors").items():
            name, start, stop = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", key).groups()
            gradients[name][int(start) : int(stop)] = value.view(-1)
        reports.append(json.loads((directory / f"{cell.name}-{rank}.json").read_text()))
    for report in reports[1:]:
        for ours, theirs in zip(report["steps"], reports[0]["steps"], strict=True):
            assert ours["loss"] == theirs["loss"]
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-6)
            assert ours["module_norms"] == pytest.approx(theirs["module_norms"], rel=1e-6)
    return Outcome(reports[0], gradients, [report["supervised"] for report in reports])


@cache
def reference(stage: str, indices: tuple[int, ...]) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss per token, gradients by name and number of supervised tokens, in one batch."""
    vlm = build(stage)
    rows = make_rows(vlm)
    batch = collate([rows[index] for index in indices], pad_id=vlm.tokenizer.pad_token_id)
    loss = vlm.core(vlm.frozen_features(batch), batch) / batch.num_supervised
    loss.backward()
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in vlm.core.named_parameters()
        if value.requires_grad
    }
    return float(loss.detach()), gradients, batch.num_supervised


def norm(values: Sequence[torch.Tensor]) -> float:
    return float(torch.cat([value.double().view(-1) for value in values]).norm())


def error(outcome: Outcome, stage: str, indices: Sequence[int]) -> float:
    """Distance of all gradients from the reference, over the reference's norm."""
    _, expected, _ = reference(stage, tuple(indices))
    assert outcome.gradients.keys() == expected.keys()
    distance = norm([outcome.gradients[name] - expected[name].view(-1) for name in expected])
    return distance / norm(list(expected.values()))


def check(outcome: Outcome, cell: Cell) -> None:
    """Loss, token count, gradients and norms by part are the reference's."""
    indices = sorted(index for part in cell.rank_rows for index in part)
    loss, expected, supervised = reference(cell.stage, tuple(indices))
    is_fp32 = cell.precision == "fp32"
    step = outcome.first["steps"][0]
    assert set(outcome.supervised) == {supervised}
    assert step["loss"] == pytest.approx(loss, rel=1e-6 if is_fp32 else 1e-3)
    assert error(outcome, cell.stage, indices) < (1e-5 if is_fp32 else 2e-2)
    for part in trained_parts(cell.stage):
        values = [value for name, value in expected.items() if part_of(name) == part]
        assert step["module_norms"][part] == pytest.approx(norm(values), rel=1e-5 if is_fp32 else 2e-2)
    assert step["module_norms"].keys() == trained_parts(cell.stage)
    total = sum(value**2 for value in step["module_norms"].values()) ** 0.5
    assert step["grad_norm"] == pytest.approx(total, rel=1e-5 if is_fp32 else 1e-3)
    assert outcome.first["exact_masters"]  # also in bf16: they begin at the fp32 weights
    assert set(outcome.first["moved"]) == trained_parts(cell.stage)


EVEN = [[0, 1, 2, 3], [4, 5, 6, 7]]
UNEVEN = [[0, 1, 2, 3, 4], [5, 6], [7]]


def exact_cells(layout: str, *, zeros: Sequence[int], precision: str = "fp32") -> list[Cell]:
    rank_rows, micro_rows, num_micro_steps = {
        "batch of 8": ([EIGHT], 8, 1),
        "accumulation 4 x 2": ([EIGHT], 2, 4),
        "2 ranks x 4": (EVEN, 4, 1),
        "3 uneven ranks": (UNEVEN, 2, 3),
    }[layout]
    return [
        Cell(
            f"{layout.replace(' ', '-')}-{zero}-{precision}",
            "finetune",
            zero,
            rank_rows,
            micro_rows,
            num_micro_steps,
            precision,
        )
        for zero in zeros
    ]


@pytest.mark.parametrize("zeros", [[0, 2], pytest.param([1, 3], marks=pytest.mark.slow)], ids=["02", "13"])
@pytest.mark.parametrize(
    "layouts", [["batch of 8", "accumulation 4 x 2"], ["2 ranks x 4"], ["3 uneven ranks"]]
)
def test_every_split_of_a_batch_gives_its_gradient(tmp_path, layouts, zeros) -> None:
    cells = [
        *(cell for layout in layouts for cell in exact_cells(layout, zeros=zeros)),
        *(
            cell
            for layout in layouts
            for cell in exact_cells(layout, zeros=[zero for zero in zeros if zero], precision="bf16")
        ),
    ]
    for cell, outcome in zip(cells, run_cells(cells, tmp_path).values(), strict=True):
        check(outcome, cell)


def apart(stage: str, zero: int, *, num_steps: int, **changes: Any) -> Cell:
    """Rank 0 has text only, rank 1 frames only: four, one and two of them a row."""
    name = f"apart-{stage}-{zero}-{'-'.join(changes)}"
    return Cell(name, stage, zero, [TEXT, SHOWN], num_steps=num_steps, **changes)


SLOWED = {"language": 0.0, "vision": 0.5}
QUICK = [
    *(apart(stage, 3, num_steps=20) for stage in STAGES),
    apart("full-finetune", 2, num_steps=20),
    apart("finetune", 3, num_steps=20, offload=True),
    apart("full-finetune", 3, num_steps=2, lr_scale=SLOWED),
    # the tower's position embedding is no parameter of a module that is called: ZeRO-3 finds it by its use
    apart("full-finetune", 3, num_steps=2, recompute=True),
]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_cells(QUICK, tmp_path_factory.mktemp("quick"))


def losses(outcome: Outcome) -> list[float]:
    return [step["loss"] for step in outcome.first["steps"]]


@pytest.mark.parametrize("cell", [*QUICK[:4], QUICK[-1]], ids=lambda cell: cell.name)
def test_a_rank_without_frames_hangs_nobody_and_changes_nothing(quick, cell) -> None:
    check(quick[cell.name], cell)
    values = losses(quick[cell.name])
    assert len(values) == cell.num_steps
    assert values[-1] < values[0]


def test_twenty_steps_are_the_same_in_another_zero_stage(quick) -> None:
    expected = losses(quick["apart-full-finetune-2-"])
    assert losses(quick["apart-full-finetune-3-"]) == pytest.approx(expected, rel=1e-4)


def test_zero_3_keeps_optimizer_and_weights_in_host_memory_without_compiling_anything(quick) -> None:
    check(quick["apart-finetune-3-offload"], QUICK[4])
    expected = losses(quick["apart-finetune-3-"])
    assert losses(quick["apart-finetune-3-offload"]) == pytest.approx(expected, rel=1e-6)


def test_a_part_learns_at_its_share_of_the_rate(quick) -> None:
    assert quick["apart-full-finetune-3-lr_scale"].first["moved"] == ["projector", "vision"]


@pytest.mark.slow
def test_a_part_learns_at_its_share_of_the_rate_in_every_zero_stage(tmp_path) -> None:
    cells = [apart("full-finetune", zero, num_steps=2, lr_scale=SLOWED) for zero in (0, 1, 2)]
    for outcome in run_cells(cells, tmp_path).values():
        assert outcome.first["moved"] == ["projector", "vision"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_rank_without_frames_hangs_nobody_in_any_zero_stage(tmp_path, stage) -> None:
    cells = [apart(stage, zero, num_steps=20) for zero in range(4)]
    cells += [apart(stage, zero, num_steps=20, precision="bf16") for zero in (1, 2, 3)]
    cells += [apart(stage, 3, num_steps=20, recompute=True)]
    (tmp_path / "together").mkdir()
    (tmp_path / "alone").mkdir()
    outcomes = run_cells(cells, tmp_path / "together")
    alone = Cell("alone", stage, 0, [EIGHT], num_micro_steps=4, num_steps=20)
    expected = losses(run_cells([alone], tmp_path / "alone")["alone"])
    for cell in cells:
        check(outcomes[cell.name], cell)
        assert losses(outcomes[cell.name]) == pytest.approx(
            expected, rel=1e-3 if cell.precision == "fp32" else 3e-2
        )


@pytest.mark.parametrize(
    "zero", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_64_micro_steps_in_bf16_are_as_good_as_one_batch(tmp_path, zero) -> None:
    everything = list(range(NUM_ROWS))
    cells = [
        Cell(str(rows), "finetune", zero, [everything], rows, NUM_ROWS // rows, "bf16")
        for rows in (1, NUM_ROWS)
    ]
    outcomes = run_cells(cells, tmp_path)
    many, one = (error(outcomes[str(rows)], "finetune", everything) for rows in (1, NUM_ROWS))
    # one batch rounds each weight's gradient once; accumulation in fp32 averages 64 roundings
    assert many < 0.6 * one, (many, one)
    assert one < 2e-2
