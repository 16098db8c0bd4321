"""Costs in the README follow from its inputs, and those from docs/log.md and the FLOP count."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from published_shapes import FOLDER, profile, published_model

from weave_train.numbers import flops_model
from weave_train.numbers.peaks import peak_flops
from weave_train.towers import num_visual_tokens

README = (FOLDER / "README.md").read_text(encoding="utf-8")
LOG = (Path(__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
CLIPS = (10_000, 160_000, 10_000_000)


def inputs() -> dict[str, float]:
    """`| D | 0.216 | ...`: the table of inputs."""
    found = re.findall(r"^\| ([A-Z]{1,2}) \| ([\d.e+-]+) \|", README, re.M)
    return {name: float(value) for name, value in found}


def costs() -> dict[str, tuple[str, list[float]]]:
    """Rows of the table of costs: formula, and a number for each of `CLIPS`."""
    found = re.findall(r"^\| ([a-z][^|]*) \| `([^`|]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README, re.M)
    return {
        name.strip(): (formula, [float(cell.replace(",", "").strip()) for cell in cells])
        for name, formula, *cells in found
    }


def evaluate(formula: str, values: dict[str, float]) -> float:
    assert re.fullmatch(r"[\w\s().*/+-]+", formula)
    return float(
        eval(formula, {"__builtins__": {}}, values)
    )  # the page's arithmetic, letters and numbers only


def significant(value: float) -> float:
    return float(f"{value:.2g}")


def test_there_are_inputs_and_costs() -> None:
    assert len(inputs()) == 13
    assert len(costs()) == 10


@pytest.mark.parametrize("column", range(3), ids=["10 k", "160 k", "10 M"])
def test_every_cost_is_its_formula(column: int) -> None:
    for name, (formula, cells) in costs().items():
        value = evaluate(formula, {**inputs(), "n": CLIPS[column]})
        assert cells[column] == significant(value), f"{name}: {formula} is {value:.3g}"


def test_measured_inputs_are_in_the_log() -> None:
    row = re.search(
        r"^\| 2000 like WebVid's, one round \| [\d.]+ / ([\d.]+) \| [\d.]+ / ([\d.]+) \|", LOG, re.M
    )
    shard = re.search(r"Writing (\d+) rows of (\d+) frames \((\d+) MB\)", LOG)
    groups = re.search(
        r"^\| groups, L = 4 \| [^|]* \| (\d+) s CPU[^|]* \| ([\d.]+) GB \| ([\d.]+) \|", LOG, re.M
    )
    assert row is not None
    assert shard is not None
    assert groups is not None
    given = inputs()
    assert given["B"] == pytest.approx(float(row[2]) / 2000, rel=5e-3)
    assert given["F"] == pytest.approx(1e6 * int(shard[3]) / int(shard[1]) / int(shard[2]) / 1e3, rel=5e-3)
    assert given["K"] == pytest.approx(float(groups[1]), rel=5e-3)
    assert float(groups[3]) == 1.09
    assert "n / 1e6) ** 1.09" in README


def test_flops_of_a_row_are_those_a_run_reports() -> None:
    config = profile("four-by-eight-gpus")
    vlm = published_model(config)
    prompt, answer = 25, 141  # of a woven sample of four captions, as benchmarks/gpu_train.py makes it
    tokens = num_visual_tokens(16, vlm.settings) + prompt + answer
    flops = flops_model(vlm, recompute=True).of_rows([tokens], num_frames=16, num_supervised=answer)
    assert inputs()["R"] == pytest.approx(flops, rel=5e-3)
    assert inputs()["P"] == pytest.approx(peak_flops("NVIDIA H100 80GB HBM3", precision="bf16"), rel=5e-3)
