"""A rendered world in a bucket, what an undisturbed build makes of it, and a data set to train on.

Stand-in decoders and small builds are shared with the tests of their rooms.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from build_runs import contents, manifests, upload
from builders import write_woven_dataset
from faults_world import Undisturbed, build_here, render_small_world
from servers import S3Server
from training_runs import Training

TESTS = Path(__file__).resolve().parents[1]
for room in ("decode", "pipeline"):
    if str(TESTS / room) not in sys.path:
        sys.path.append(str(TESTS / room))


@pytest.fixture(scope="session")
def undisturbed(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    render_small_world(folder / "world")
    build_here(str(folder / "world"), str(folder / "woven"))
    source = upload(folder / "world", s3, s3.new_bucket(), "webvid")
    return Undisturbed(source, contents(str(folder / "woven")), manifests(str(folder / "woven")))


@pytest.fixture(scope="session")
def training(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Runs over 45 rows that lie in a bucket; five steps an epoch."""
    manifest = write_woven_dataset(
        f"s3://{s3.new_bucket()}/woven", rows=45, clips_per_sample=2, frames_per_sample=4
    )
    return Training(manifest, tmp_path_factory.mktemp("faulty-runs"))


@pytest.fixture
def own_bucket(s3: S3Server) -> str:
    return f"s3://{s3.new_bucket()}"
