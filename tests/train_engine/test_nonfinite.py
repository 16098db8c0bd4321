"""A step that is not finite touches nothing, names who had it, and is counted; in every ZeRO stage."""

from __future__ import annotations

import re
from typing import Any

import pytest
from precision_cases import FREE, PURE, ROWS, run_cases
from precision_ranks import Case
from training_runs import Training, column

from weave_data.errors import TrainingError
from weave_train.checkpoint.layout import find_checkpoint_at

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

RATE = 1e-3
FAULTS = [[1, "row-5", "activation"], [2, "row-7", "gradient"], [3, "row-1", "loss"], [4, "row-5", "once"]]
EXPECTED = {
    1: "the loss is nan: rank 1: row-4, row-5 (activations of projector and language)",
    2: "the gradients are not finite: rank 1: row-6, row-7 (gradients of projector)",
    3: "the loss is inf: rank 0: row-0, row-1 (loss inf of language)",
    4: "the gradients are not finite: nothing was, when the step was repeated",
}


def pair(zero: int, **changes: Any) -> list[Case]:
    """Steps 1 to 4 of six break, and the two others alone; the rates of those that count are the same."""
    name = "-".join([str(zero), *(str(value) for value in changes.values() if value is not True)])
    name = name.replace("{'optimizer': 'schedule_free_adamw'}", "free").replace(
        "{'master_weights': 'bf16'}", "pure"
    )
    rates = [RATE, RATE, RATE, RATE, 3 * RATE, 2 * RATE]
    return [
        Case(f"broken-{name}", zero, ROWS, rates, faults=FAULTS, **changes),
        Case(f"clean-{name}", zero, ROWS, [RATE, 2 * RATE], **changes),
    ]


ALL = [
    *(pair(zero) for zero in range(4)),
    *(pair(zero, precision="bf16") for zero in (1, 2, 3)),
    *(pair(zero, precision="bf16", engine=PURE) for zero in (1, 2, 3)),
    *(pair(zero, engine=FREE) for zero in range(4)),
    pair(3, offload=True),
]
QUICK = [pair(0), pair(2, precision="bf16"), pair(3), pair(3, engine=FREE)]


def check(broken: list[dict[str, Any]], clean: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(broken, clean, strict=True):
        for number, step in enumerate(ours["steps"]):
            assert step["as_deepspeed"]
            assert step["is_unmoved"] == (number in EXPECTED)
            assert step["reason"].startswith(EXPECTED.get(number, ""))
            assert bool(step["reason"]) == (number in EXPECTED)
        assert ours["digest"] == theirs["digest"]  # weights, states and Adam's step, bit by bit
        assert ours["adam_step"] == theirs["adam_step"] == 2
        assert [ours["steps"][0]["loss"], ours["steps"][5]["loss"]] == [
            step["loss"] for step in theirs["steps"]
        ]


def test_a_broken_step_touches_nothing_and_names_samples_and_parts(tmp_path) -> None:
    outcomes = run_cases([case for cases in QUICK for case in cases], tmp_path)
    for broken, clean in QUICK:
        check(outcomes[broken.name], outcomes[clean.name])


@pytest.mark.slow
def test_a_broken_step_touches_nothing_in_every_zero_stage_and_precision(tmp_path) -> None:
    outcomes = run_cases([case for cases in ALL for case in cases], tmp_path)
    for broken, clean in ALL:
        check(outcomes[broken.name], outcomes[clean.name])


RUINED = ["--model.finetune_learning_rate", "1e30", "--zero_stage", "2", "--save_every_steps", "1"]
SKIP = ["--watch.nonfinite", "skip", "--watch.max_skipped_steps", "2"]


def test_a_run_stops_and_keeps_its_last_finite_checkpoint(training: Training) -> None:
    done = training.alone("ruined", *RUINED)
    assert done.returncode == TrainingError.exit_code
    (line,) = [line for line in done.stderr.splitlines() if "--watch.nonfinite skip" in line]
    assert re.search(r"the (loss is nan|gradients are not finite): rank 0: \S+", line)
    assert column(training.root / "ruined", "Step") == [1]
    assert find_checkpoint_at(str(training.root / "ruined")).step == 1


def test_skipped_steps_are_counted_over_resumes_and_too_many_stop_the_run(training: Training) -> None:
    done = training.alone("skipping", *RUINED, *SKIP)
    assert done.returncode == TrainingError.exit_code
    told = [line for line in done.stderr.splitlines() if line.startswith("weave-train: step ")]
    assert [line.split(":")[1] for line in told[:2]] == [
        " step 2 skipped (1 of at most 2)",
        " step 3 skipped (2 of at most 2)",
    ]
    run_dir = training.root / "skipping"
    assert column(run_dir, "Skipped") == [False, True, True]
    assert column(run_dir, "Loss (Raw)")[1:] == [None, None]
    checkpoint = find_checkpoint_at(str(run_dir))
    assert (checkpoint.step, checkpoint.state["skipped_steps"], checkpoint.state["adam_step"]) == (3, 2, 1)
    again = training.alone("skipping", *RUINED, *SKIP)
    assert again.returncode == TrainingError.exit_code
    assert "step 4: " in again.stderr
    assert "this run has skipped 2 steps" in again.stderr
