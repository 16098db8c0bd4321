"""A run on a full disk ends in one line; with room the same command gives the run that was meant."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_woven_dataset
from training_runs import Training, column

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(3600)]

FLAGS = ("--max_steps", "4", "--save_every_steps", "2")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds a run's settings and not its weights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "weave-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system needs root and CAP_SYS_ADMIN: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_run_directory_ends_a_run_in_one_line_and_with_room_it_is_the_same_run(
    small_disk: Path, tmp_path: Path
) -> None:
    manifest = write_woven_dataset(tmp_path / "woven", rows=45, clips_per_sample=2, frames_per_sample=4)
    run = Training(manifest, small_disk)
    said = run.alone("run", *FLAGS)
    assert said.returncode == 3
    assert "No space left on device; correct the disk or its permissions" in said.stderr
    assert "Traceback" not in said.stderr
    assert not list(small_disk.rglob("complete.json"))
    subprocess.run(["mount", "-o", "remount,size=512m", str(small_disk)], check=True)
    resumed = run.alone("run", *FLAGS)
    assert resumed.returncode == 0, resumed.stderr
    whole = Training(manifest, tmp_path / "whole")
    undisturbed = whole.alone("run", *FLAGS)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for name in ("Step", "Ledger", "Loss (Raw)"):
        assert column(small_disk / "run", name) == column(tmp_path / "whole" / "run", name)
