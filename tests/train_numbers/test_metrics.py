"""What `metrics.jsonl` holds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from step_reports import make_report

from weave_train.numbers import JsonlTracker, StepReport, ValidationReport, last_loss, read_metrics


def track(run_dir: Path, *reports: StepReport, start_step: int = 0) -> None:
    tracker = JsonlTracker(run_dir, stage="finetune", start_step=start_step)
    for report in reports:
        tracker.on_step(report)
    tracker.close()


def steps(numbers: range) -> list[StepReport]:
    return [make_report(step, loss=float(step)) for step in numbers]


def test_a_line_has_the_keys_of_videoweave_and_throughput(tmp_path: Path) -> None:
    track(tmp_path, *steps(range(1, 3)))
    line = read_metrics(tmp_path)[1]
    assert {f"Finetune/{key}" for key in ("Step", "Loss", "Loss (Raw)", "Learning Rate", "Step Time")} <= set(
        line
    )
    assert line["Finetune/Loss (Raw)"] == 2.0
    assert line["Finetune/Loss"] == 1.5
    assert line["Finetune/Samples per Second"] == pytest.approx(32)
    assert line["Finetune/Tokens per Second"] == pytest.approx(1600)


def test_shares_norms_and_work_are_told(tmp_path: Path) -> None:
    track(
        tmp_path,
        make_report(
            1,
            visual_tokens=300,
            padded_tokens=100,
            module_norms={"projector": 0.25, "language": 0.5},
            model_flops=3e12,
            hardware_flops=4e12,
            mfu=0.41,
            hfu=0.55,
            memory_bytes=7,
            save_wait_seconds=0.5,
            read_bytes=9,
        ),
    )
    line = read_metrics(tmp_path)[0]
    assert line["Finetune/Padding"] == pytest.approx(0.2)
    assert line["Finetune/Visual Tokens per Second"] == pytest.approx(1200)
    assert line["Finetune/Supervised Tokens per Second"] == pytest.approx(400)
    assert line["Finetune/Gradient Norm (Projector)"] == 0.25
    assert line["Finetune/Gradient Norm (Language)"] == 0.5
    assert (line["Finetune/Model TFLOP"], line["Finetune/Hardware TFLOP"]) == (3.0, 4.0)
    assert (line["Finetune/MFU"], line["Finetune/HFU"]) == (0.41, 0.55)
    assert (line["Finetune/Memory Bytes"], line["Finetune/Read Bytes"]) == (7, 9)
    assert line["Finetune/Save Wait"] == 0.5


def test_what_is_not_known_is_null_and_every_line_is_strict_json(tmp_path: Path) -> None:
    track(tmp_path, make_report(1, loss=4.0), make_report(2, loss=math.inf, was_skipped=True))

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert lines[0]["Finetune/MFU"] is None
    assert lines[1]["Finetune/Loss (Raw)"] is None
    assert lines[1]["Finetune/Skipped"] is True
    assert lines[1]["Finetune/Loss"] == 4.0, "a skipped step is not in the mean"
    assert math.isnan(last_loss(tmp_path, stage="finetune"))


def test_a_validation_pass_is_in_the_line_of_its_step(tmp_path: Path) -> None:
    validation = ValidationReport(loss=1.25, supervised_tokens=40, rows=5, seconds=0.5)
    track(tmp_path, make_report(1), make_report(2, validation=validation))
    first, second = read_metrics(tmp_path)
    assert "Finetune/Validation Loss" not in first
    assert second["Finetune/Validation Loss"] == 1.25
    assert second["Finetune/Validation Samples"] == 5


def test_the_last_loss_is_that_of_the_last_line(tmp_path: Path) -> None:
    assert math.isnan(last_loss(tmp_path, stage="finetune"))
    track(tmp_path, *steps(range(1, 4)))
    assert last_loss(tmp_path, stage="finetune") == 3.0
    assert math.isnan(last_loss(tmp_path, stage="align"))


def test_steps_after_the_checkpoint_are_cut_and_never_come_twice(tmp_path: Path) -> None:
    track(tmp_path, *steps(range(1, 7)))
    track(tmp_path, *steps(range(5, 8)), start_step=4)
    assert [line["Finetune/Step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    assert read_metrics(tmp_path)[-1]["Finetune/Loss"] == 4.0


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    track(tmp_path, *steps(range(1, 4)))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert len(read_metrics(tmp_path)) == 2
    track(tmp_path, *steps(range(3, 4)), start_step=2)
    assert [line["Finetune/Step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"a": 1\n{"a": 2}\n')
    with pytest.raises(json.JSONDecodeError):
        read_metrics(tmp_path)
