"""Whole runs in several processes: stages agree, resume continues, the tower stays, it can speak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import write_woven_dataset
from rendering import Rendering, render_video
from training_runs import NUM_STEPS, STOPPED_AT, Training, column

from weave_train.checkpoint.frozen import frozen_sha256
from weave_train.checkpoint.layout import complete_key, find_checkpoint_at
from weave_train.loading import load

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def test_zero_1_2_and_3_agree_over_thirty_steps(zero1: Path, zero2: Path, zero3: Path) -> None:
    losses = column(zero2, "Loss (Raw)")
    assert len(losses) == NUM_STEPS
    assert losses[-1] < 0.6 * losses[0]
    for other in (zero1, zero3):
        assert column(other, "Loss (Raw)") == pytest.approx(losses, rel=1e-4)
        assert column(other, "Gradient Norm") == pytest.approx(column(zero2, "Gradient Norm"), rel=1e-3)
        assert column(other, "Ledger") == column(zero2, "Ledger")


def test_resume_continues_the_curve(training: Training, zero2: Path, stopped: Path) -> None:
    assert column(stopped, "Step") == list(range(1, STOPPED_AT + 1))
    training.copy("stopped", "resumed")
    resumed = training.start("resumed", "--zero_stage", "2")
    assert column(resumed, "Step") == list(range(1, NUM_STEPS + 1))
    assert column(resumed, "Loss (Raw)") == pytest.approx(column(zero2, "Loss (Raw)"), rel=1e-6)
    assert column(resumed, "Ledger") == column(zero2, "Ledger")
    assert column(resumed, "Learning Rate") == column(zero2, "Learning Rate")


def test_resume_in_one_process_without_sharding_continues_the_curve(
    training: Training, zero2: Path, stopped: Path
) -> None:
    training.copy("stopped", "alone")
    done = training.alone("alone", "--zero_stage", "0")
    assert done.returncode == 0, done.stderr
    assert column(training.root / "alone", "Loss (Raw)") == pytest.approx(
        column(zero2, "Loss (Raw)"), rel=1e-5
    )
    assert column(training.root / "alone", "Ledger") == column(zero2, "Ledger")
    # a wrong factor of the world size would hide behind Adam, not here
    norms = column(training.root / "alone", "Gradient Norm")
    assert norms == pytest.approx(column(zero2, "Gradient Norm"), rel=1e-3)


@pytest.mark.parametrize(
    ("stage", "num_ranks"),
    [("3", 2), pytest.param("3", 3, marks=pytest.mark.slow), pytest.param("1", 1, marks=pytest.mark.slow)],
)
def test_resume_in_another_stage_and_world_continues_the_curve(
    training: Training, zero2: Path, stopped: Path, stage: str, num_ranks: int
) -> None:
    name = f"moved-{stage}-{num_ranks}"
    training.copy("stopped", name)
    moved = training.start(name, "--zero_stage", stage, num_ranks=num_ranks)
    assert column(moved, "Loss (Raw)") == pytest.approx(column(zero2, "Loss (Raw)"), rel=1e-5)
    assert column(moved, "Ledger") == column(zero2, "Ledger")


@pytest.mark.slow
def test_a_checkpoint_of_zero_3_continues_in_zero_2(training: Training, zero2: Path) -> None:
    training.start("from3", "--zero_stage", "3", "--stop_after_steps", "10")
    moved = training.start("from3", "--zero_stage", "2")
    assert column(moved, "Loss (Raw)") == pytest.approx(column(zero2, "Loss (Raw)"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_bf16_keeps_fp32_masters_and_stays_near_fp32(training: Training, zero2: Path, stage: str) -> None:
    bf16 = ["--model.enable_mixed_precision_training", "true", "--zero_stage", stage]
    training.start(f"bf16-{stage}", *bf16, "--stop_after_steps", "12")
    run_dir = training.start(f"bf16-{stage}", *bf16)
    assert column(run_dir, "Loss (Raw)") == pytest.approx(column(zero2, "Loss (Raw)"), rel=5e-2)
    assert column(run_dir, "Ledger") == column(zero2, "Ledger")


def test_the_frozen_tower_does_not_move_and_is_referenced_by_its_sum(
    zero1: Path, zero3: Path, stopped: Path
) -> None:
    found = {find_checkpoint_at(str(run_dir)).frozen["vision"] for run_dir in (zero1, zero3, stopped)}
    assert len(found) == 1
    for run_dir in (zero1, zero3, stopped):
        assert {frozen_sha256(load(run_dir, device="cpu").tower)} == found


def test_a_run_whose_tower_is_lost_is_refused(training: Training, stopped: Path) -> None:
    training.copy("stopped", "other-tower")
    path = training.root / "other-tower" / complete_key(STOPPED_AT)
    path.write_text(json.dumps({**json.loads(path.read_text()), "frozen": {"vision": "0" * 64}}))
    done = training.alone("other-tower")
    assert done.returncode == 5
    assert "frozen/vision-0000000000000000: the frozen weights of 'vision' are not there" in done.stderr


def test_a_changed_data_set_is_refused_saying_what_changed(
    training: Training, stopped: Path, tmp_path: Path
) -> None:
    other = write_woven_dataset(tmp_path, rows=75, clips_per_sample=4, frames_per_sample=4)
    done = training.alone("stopped", "--dataset.manifest", other)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the data set changed since: configuration.recipe.clips_per_sample was 2, is 4" in done.stderr


def test_other_model_or_batch_flags_are_refused(training: Training, stopped: Path) -> None:
    done = training.alone(
        "stopped", "--model.finetune_global_batch_size", "8", "--model.llm_max_length", "300"
    )
    assert done.returncode == 2
    assert "batch_rows was 9, is 8" in done.stderr
    assert "model.llm_max_length was 512, is 300" in done.stderr


def test_resume_never_refuses_a_run_that_has_begun(training: Training, stopped: Path) -> None:
    done = training.alone("stopped", "--resume", "never")
    assert done.returncode == 2
    assert "has step-000013" in done.stderr


def test_a_run_can_branch_off_a_step_directory(training: Training, zero2: Path, stopped: Path) -> None:
    newest = find_checkpoint_at(str(stopped)).uri
    extra = [
        "--resume",
        newest,
        "--stop_after_steps",
        "2",
        "--zero_stage",
        "2",
        "--save_every_steps",
        "1",
    ]
    done = training.alone("branch", *extra)
    assert done.returncode == 0, done.stderr
    assert column(training.root / "branch", "Step") == [STOPPED_AT + 1, STOPPED_AT + 2]
    expected = column(zero2, "Loss (Raw)")[STOPPED_AT : STOPPED_AT + 2]
    assert column(training.root / "branch", "Loss (Raw)") == pytest.approx(expected, rel=1e-5)
    saved = sorted(path.name for path in (training.root / "branch" / "checkpoints").iterdir())
    assert saved == ["step-000014", "step-000015"]
    load(training.root / "branch", device="cpu")


def test_a_run_directory_holds_what_is_promised(zero2: Path) -> None:
    names = {path.name for path in zero2.iterdir()}
    assert names == {
        *("config.json", "config.yaml", "metrics.jsonl", "loss.png", "tokenizer", "language"),
        *("frozen", "checkpoints", "runner.json"),
    }
    # a run that counts in steps saves at its end only, unless told otherwise
    assert [path.name for path in (zero2 / "checkpoints").iterdir()] == [f"step-{NUM_STEPS:06d}"]
    assert (zero2 / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_stored_run_describes_a_video_on_the_command_line(
    training: Training, zero2: Path, tmp_path: Path
) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(render_video(Rendering(num_frames=12)))
    done = training.command("generate", str(zero2), "--video", str(video), "--max-new-tokens", "12")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) > 0


def test_one_process_matches_plain_torch_and_speaks_as_before_after_loading(training: Training) -> None:
    done = training.script("one_process.py", *training.flags("one", "--zero_stage", "2"))
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.split("RESULT ")[1])
    assert values["taken"] == pytest.approx(values["expected"], rel=1e-5)
    assert values["before"] == values["after"]
    assert any(values["before"])
    assert "the frozen tower moved" in values["moved"]
