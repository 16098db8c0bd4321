"""A small data set to train on, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import write_woven_dataset
from training_runs import Training


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("run-training")
    manifest = write_woven_dataset(root / "woven", rows=75, clips_per_sample=2, frames_per_sample=4)
    return Training(manifest, root / "runs")


@pytest.fixture(scope="session")
def unbroken(training: Training) -> Path:
    """Thirty steps of two ranks that nobody disturbs."""
    return training.start("unbroken", "--zero_stage", "2")
