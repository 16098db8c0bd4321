"""A dry run finds what would end the run later, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import write_woven_dataset
from training_runs import Training

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


def test_a_dry_run_shows_template_lengths_and_one_step_and_writes_nothing(training: Training) -> None:
    done = training.alone("dry", "--zero_stage", "2", "--dry_run", "--num_ranks", "2")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line and line[0] != " ")
    assert lines["steps"].startswith("30, 9 an epoch")
    assert "frames" in lines["heaviest"]
    assert "loss" in done.stdout
    assert "<s><16 visual>In: Describe" in done.stdout.replace(" In:", "In:")
    assert "[[" in done.stdout
    assert "</s>]]" in done.stdout
    assert not (training.root / "dry").exists()


def test_with_a_token_index_the_heaviest_row_is_that_of_all(training: Training) -> None:
    flags = ("--zero_stage", "2", "--dataset.token_index", str(training.root / "indexes"))
    indexed = training.command("index", *training.flags("any", *flags))
    assert indexed.returncode == 0, indexed.stderr
    (file,) = (training.root / "indexes").glob("*.parquet")
    lengths = pq.read_table(file)["kept_tokens"].to_pylist()
    done = training.alone("dry-indexed", *flags, "--dry_run")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line and line[0] != " ")
    assert lines["rows"].startswith(f"75 in the token index, {sum(lengths) / 75:.0f} tokens")
    assert f" {max(lengths)} tokens of 512" in lines["heaviest"]


def test_a_row_that_does_not_fit_is_found_dry(training: Training) -> None:
    done = training.alone("dry-long", "--zero_stage", "2", "--dry_run", "--model.llm_max_length", "20")
    assert done.returncode == 2
    assert "model.llm_max_length: sample " in done.stderr
    assert not (training.root / "dry-long").exists()


def test_a_rank_without_rows_goes_through_it_as_well(tmp_path: Path) -> None:
    manifest = write_woven_dataset(tmp_path / "one", rows=1, frames_per_sample=4)
    done = Training(manifest, tmp_path / "runs").alone("dry-one", "--dry_run", "--num_ranks", "2")
    assert done.returncode == 0, done.stderr
    assert "1 looked at" in done.stdout
