"""Bytes of model states by arithmetic against the tensors that two real ranks hold, ZeRO 0 to 3."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from training_runs import ENVIRONMENT

from weave_train.plugin import run_ranks

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

_TESTS = Path(__file__).parents[1]


def cell(
    name: str, zero: int, precision: str = "bf16", stage: str = "finetune", **more: Any
) -> dict[str, Any]:
    return {"name": name, "zero": zero, "precision": precision, "stage": stage, **more}


QUICK = [cell("zero0-fp32", 0, "fp32"), cell("zero1", 1), cell("zero2", 2), cell("zero3", 3)]
SLOW = [
    cell("zero1-fp32", 1, "fp32"),
    cell("zero2-fp32", 2, "fp32"),
    cell("zero3-fp32", 3, "fp32"),
    cell("zero3-offload", 3, offload=True),
    cell("zero2-align", 2, stage="align"),
    cell("zero3-align", 3, stage="align"),
    cell("zero2-full", 2, stage="full-finetune"),
    cell("zero1-pure", 1, master="bf16", reduce=False),
    cell("zero2-pure", 2, master="bf16", reduce=False),
    cell("zero3-pure", 3, master="bf16", reduce=False),
]


def count(cells: list[dict[str, Any]], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What two ranks hold and what the arithmetic says, by cell."""
    (folder / "cells.json").write_text(json.dumps(cells))
    script = str(Path(__file__).parent / "memory_ranks.py")
    paths = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(_TESTS)])
    command = [sys.executable, script, str(folder / "cells.json"), str(folder)]
    assert run_ranks(command, num_ranks=2, environment={**ENVIRONMENT, "PYTHONPATH": paths}) == 0
    return {
        each["name"]: [json.loads((folder / f"{each['name']}-{rank}.json").read_text()) for rank in range(2)]
        for each in cells
    }


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return count(QUICK, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return count(SLOW, tmp_path_factory.mktemp("slow"))


def check(name: str, ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        # ZeRO 3 keeps its bucket from step to step, the others free it after backward
        bucket = rank["states"]["bucket"] if name.startswith("zero3") else 0
        assert rank["kept"] + rank["tower"] + bucket == pytest.approx(rank["held"], rel=0.05)


@pytest.mark.parametrize("name", [each["name"] for each in QUICK])
def test_model_states_are_within_five_percent_of_a_runs(name: str, quick) -> None:
    check(name, quick[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [each["name"] for each in SLOW])
def test_so_they_are_frozen_offloaded_in_fp32_and_in_pure_bf16(name: str, slow) -> None:
    check(name, slow[name])


@pytest.mark.slow
def test_what_offloading_keeps_on_the_host_is_all_but_the_buffers(slow) -> None:
    for rank in slow["zero3-offload"]:
        assert rank["states"]["on_host"] == rank["kept"] + rank["states"]["update"]
