"""Runs of the whole trainer, made once a session and shared: each costs seconds of start-up.

zero1, zero2, zero3   30 steps, two processes, fp32; nine rows a batch, so the ranks are uneven
stopped               the same as zero2, stopped after 13 steps
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import write_woven_dataset
from training_runs import STOPPED_AT, Training


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("training")
    manifest = write_woven_dataset(root / "woven", rows=75, clips_per_sample=2, frames_per_sample=4)
    return Training(manifest, root / "runs")


@pytest.fixture(scope="session")
def zero1(training: Training) -> Path:
    return training.start("zero1", "--zero_stage", "1", launcher="torchrun")


@pytest.fixture(scope="session")
def zero2(training: Training) -> Path:
    return training.start("zero2", "--zero_stage", "2")


@pytest.fixture(scope="session")
def zero3(training: Training) -> Path:
    return training.start("zero3", "--zero_stage", "3", launcher="deepspeed")


@pytest.fixture(scope="session")
def stopped(training: Training) -> Path:
    return training.start("stopped", "--zero_stage", "2", "--stop_after_steps", str(STOPPED_AT))
