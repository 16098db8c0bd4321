"""`ray job submit` of a build on a running cluster: logs, exit code, and the same manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raycluster import RAY, RayHead, ray_head
from small_builds import settings

from weave_data.pipeline import build
from weave_data.shard import read_manifest
from weave_data.storage import open_store

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("ray-head")]

DEADLINE_SECONDS = 900


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("WEAVE_LOGICAL_GPUS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        with ray_head(tmp_path_factory.mktemp("ray"), num_cpus=2, num_gpus=1) as running:
            yield running


def submit(head: RayHead, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RAY, "job", "submit", "--address", head.dashboard, "--", *command],
        capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False, env=dict(os.environ),
    )  # fmt: skip


def write_config(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "build.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_submitted_build_attaches_shows_its_log_and_writes_the_same_manifest(
    head: RayHead, rendered: Path, tmp_path: Path, make_config: Any
) -> None:
    values = settings(str(rendered), str(tmp_path / "submitted"))
    # a logical GPU carries the pool of embedding actors
    values["execution"] = {"gpus": 1, "gpus_per_actor": 0.5}
    config = write_config(tmp_path, values)
    done = submit(head, sys.executable, "-m", "weave_data", "build", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "l4: 6 samples in 2 shards" in done.stdout
    build(make_config(output=tmp_path / "local"))
    submitted, local = (
        read_manifest(open_store(str(tmp_path / name)), "l4") for name in ("submitted", "local")
    )
    assert submitted == local


def test_a_submitted_build_that_fails_has_an_exit_code_and_its_one_line(
    head: RayHead, rendered: Path, tmp_path: Path
) -> None:
    values = settings(str(rendered / "nowhere"), str(tmp_path / "woven"))
    values["execution"] = {}
    done = submit(head, sys.executable, "-m", "weave_data", "build", str(write_config(tmp_path, values)))
    assert done.returncode != 0
    assert "clips.csv" in done.stdout + done.stderr


def test_gpus_that_the_cluster_lacks_stop_a_build_before_any_work(
    head: RayHead, rendered: Path, tmp_path: Path
) -> None:
    values = settings(str(rendered), str(tmp_path / "woven"))
    values["execution"] = {"gpus": 8, "ray_address": head.gcs_address}
    done = subprocess.run(
        [sys.executable, "-m", "weave_data", "build", str(write_config(tmp_path, values))],
        capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "execution.gpus: 8 asked for" in done.stderr
    assert not list((tmp_path / "woven").rglob("*.parquet"))
