"""What a run tells about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weave_train.numbers.hooks import JsonlTracker, LossCurve, ProgressLine, StepReport, read_metrics


def report(step: int, *, loss: float = 2.0) -> StepReport:
    return StepReport(
        step=step,
        num_steps=10,
        epoch=0,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=0.5,
        step_seconds=0.25,
        data_wait_seconds=0.05,
        rows=8,
        tokens=400,
        supervised_tokens=100,
        ledger="ab",
    )


def track(run_dir: Path, steps: range, *, start_step: int = 0) -> None:
    tracker = JsonlTracker(run_dir, stage="finetune", start_step=start_step)
    for step in steps:
        tracker.on_step(report(step, loss=float(step)))
    tracker.close()


def test_a_line_has_the_keys_of_videoweave_and_throughput(tmp_path: Path) -> None:
    track(tmp_path, range(1, 3))
    line = read_metrics(tmp_path)[1]
    assert {f"Finetune/{key}" for key in ("Step", "Loss", "Loss (Raw)", "Learning Rate", "Step Time")} <= set(
        line
    )
    assert line["Finetune/Loss (Raw)"] == 2.0
    assert line["Finetune/Loss"] == 1.5
    assert line["Finetune/Samples per Second"] == pytest.approx(32)
    assert line["Finetune/Tokens per Second"] == pytest.approx(1600)


def test_steps_after_the_checkpoint_are_cut_and_never_come_twice(tmp_path: Path) -> None:
    track(tmp_path, range(1, 7))
    track(tmp_path, range(5, 8), start_step=4)
    assert [line["Finetune/Step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    assert read_metrics(tmp_path)[-1]["Finetune/Loss"] == 4.0


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    track(tmp_path, range(1, 4))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    assert len(read_metrics(tmp_path)) == 2
    track(tmp_path, range(3, 4), start_step=2)
    assert [line["Finetune/Step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"a": 1\n{"a": 2}\n')
    with pytest.raises(json.JSONDecodeError):
        read_metrics(tmp_path)


def test_the_curve_is_drawn_when_there_is_one(tmp_path: Path) -> None:
    LossCurve(tmp_path, stage="finetune").close()
    assert not (tmp_path / "loss.png").exists()
    track(tmp_path, range(1, 4))
    LossCurve(tmp_path, stage="finetune").close()
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_progress_without_a_terminal_prints_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(start_step=0, num_steps=100)
    for step in range(1, 21):
        line.on_step(report(step))
    line.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [text for text in shown.err.splitlines() if text.startswith("step ")] == [
        "step 10/10  loss 2.0000  1600 tokens/s",
        "step 20/10  loss 2.0000  1600 tokens/s",
    ]
