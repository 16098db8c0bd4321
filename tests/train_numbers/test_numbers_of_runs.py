"""What a run tells through `weave-train pretrain`: validation, W&B, throughput, hangs."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import write_woven_dataset
from training_runs import Training, column

from weave_train.numbers import read_metrics
from weave_train.train.watchdog import HANG_EXIT_CODE

VALIDATE = ("--val_dataset.split", "val", "--val_every_steps", "4", "--val_max_rows", "7")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("numbers")
    manifest = write_woven_dataset(
        root / "woven", rows=45, clips_per_sample=2, frames_per_sample=4, val_rows=9
    )
    return Training(manifest, root / "runs")


@pytest.fixture(scope="module")
def validated(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of two ranks under ZeRO-3, then resumed on one process for two more; W&B offline."""
    pytest.importorskip("wandb")
    home = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_API_KEY", "0" * 40)
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(home))
        flags = ("--zero_stage", "3", "--max_steps", "8", "--trackers", "jsonl", "wandb", *VALIDATE)
        run_dir = training.start("validated", *flags, "--stop_after_steps", "6")
        done = training.alone("validated", *flags)
        assert done.returncode == 0, done.stderr
        assert "validation" in done.stderr, "the progress line tells the loss of held-out rows"
    return run_dir


@pytest.mark.process
def test_validation_runs_every_n_steps_and_at_the_end_and_goes_on_after_a_resume(validated: Path) -> None:
    lines = read_metrics(validated)
    assert [line["Finetune/Step"] for line in lines] == list(range(1, 9))
    passes = {line["Finetune/Step"]: line for line in lines if "Finetune/Validation Loss" in line}
    assert sorted(passes) == [4, 8]
    assert {line["Finetune/Validation Samples"] for line in passes.values()} == {7}
    assert passes[8]["Finetune/Validation Loss"] < passes[4]["Finetune/Validation Loss"]
    assert (validated / "loss.png").is_file()


@pytest.mark.process
def test_every_step_tells_its_work_and_where_its_time_went(validated: Path) -> None:
    visual, tokens = column(validated, "Visual Tokens"), column(validated, "Tokens")
    assert set(visual) == {9 * 4 * 4}, "nine rows of four frames of four patches"
    assert all(some < total for some, total in zip(visual, tokens, strict=True))
    assert all(0 <= share < 1 for share in column(validated, "Padding"))
    model, hardware = column(validated, "Model TFLOP"), column(validated, "Hardware TFLOP")
    assert all(0 < useful < done for useful, done in zip(model, hardware, strict=True))
    assert max(model) < 1.2 * min(model), "two ranks and one count the same work"
    assert set(column(validated, "MFU")) == {None}, "a CPU has no known peak"
    assert all(value > 100 * 2**20 for value in column(validated, "Memory Bytes"))
    assert sum(column(validated, "Read Bytes")) > 0
    assert sum(column(validated, "Encode Time")) > 0


@pytest.mark.process
def test_a_resumed_run_goes_on_in_the_same_wandb_run(validated: Path) -> None:
    run_id = (validated / "wandb-id.txt").read_text().strip()
    stored = sorted((validated / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in stored] == [f"run-{run_id}.wandb"] * 2


@pytest.mark.process
def test_a_split_that_is_not_there_is_refused_by_name(training: Training) -> None:
    done = training.alone("nothing", "--val_dataset.split", "holdout")
    assert done.returncode == 2
    assert "no split 'holdout'; it has train, val" in done.stderr


@pytest.mark.process
def test_a_run_is_watched_as_long_as_its_flag_says(training: Training) -> None:
    done = training.alone("watched", "--watch.step_timeout_s", "0.001")
    assert done.returncode == HANG_EXIT_CODE, done.stderr
    report = (training.root / "watched" / "hangs" / "rank-0.txt").read_text()
    assert "watch.step_timeout_s is 0.001" in report
    assert "weave_train/train/loop.py" in report, "stacks name the line"
