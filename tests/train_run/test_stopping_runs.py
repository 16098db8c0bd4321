"""A run that is asked to stop, killed, or fails on one rank: what it leaves, and how fast it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from training_runs import ENVIRONMENT, Training, column, wait_for_steps

from weave_train.numbers import read_metrics

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def start(training: Training, run_id: str, *extra: str) -> subprocess.Popen[str]:
    """Two ranks, if nothing else is said, below a launcher of their own."""
    return training.begin(run_id, "--zero_stage", "2", "--num_ranks", "2", *extra)


def wait_for_end(processes: list[psutil.Process]) -> None:
    """All of them are gone, or nobody's but a zombie."""
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_sigterm_saves_once_on_all_ranks_and_exits_with_0(training: Training, unbroken: Path) -> None:
    launcher = start(training, "terminated")
    wait_for_steps(training.root / "terminated", 3, launcher)
    launcher.send_signal(signal.SIGTERM)
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, errors
    taken = len(read_metrics(training.root / "terminated"))
    assert 3 <= taken < 30
    steps = sorted(path.name for path in (training.root / "terminated" / "checkpoints").glob("step-*"))
    assert steps == [f"step-{taken:06d}"]
    resumed = training.start("terminated", "--zero_stage", "2")
    assert column(resumed, "Ledger") == column(unbroken, "Ledger")
    assert column(resumed, "Loss (Raw)") == pytest.approx(column(unbroken, "Loss (Raw)"), rel=1e-6)


TORCHRUN = ("launch", "--launcher", "torchrun", "--nproc_per_node", "2", "--max_restarts", "2")


@pytest.mark.parametrize("start", [TORCHRUN, ("pretrain", "--num_ranks", "2")], ids=["torchrun", "pretrain"])
def test_a_stop_that_comes_while_ranks_load_is_kept_and_saves(
    training: Training, start: tuple[str, ...]
) -> None:
    run_dir = training.root / f"early-{start[0]}"
    flags = training.flags(run_dir.name, "--zero_stage", "2")
    command = [sys.executable, "-m", "weave_train", *start, *flags]
    launch = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not ranks_below(launch):
        assert time.monotonic() < deadline
        assert launch.poll() is None
        time.sleep(0.01)
    launch.send_signal(signal.SIGTERM)
    _, errors = launch.communicate(timeout=600)
    assert launch.returncode == 0, errors
    assert "restart" not in errors
    assert len(read_metrics(run_dir)) == 1
    assert [path.name for path in (run_dir / "checkpoints").glob("step-*")] == ["step-000001"]


def ranks_below(launch: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes that have a rank, however young."""
    found = []
    for process in psutil.Process(launch.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "RANK" in process.environ():
                found.append(process)
    return found


def test_ranks_do_not_outlive_a_killed_launcher(training: Training) -> None:
    launcher = start(training, "orphaned")
    wait_for_steps(training.root / "orphaned", 1, launcher)
    ranks = psutil.Process(launcher.pid).children(recursive=True)
    assert len(ranks) >= 2
    launcher.kill()
    launcher.communicate(timeout=60)
    wait_for_end(ranks)


def test_a_rank_that_cannot_decode_a_frame_ends_all_of_them_with_its_reason(
    training: Training, tmp_path: Path
) -> None:
    broken = tmp_path / "woven"
    manifest = Path(training.manifest)
    shutil.copytree(manifest.parents[1], broken)
    shard = max(broken.rglob("train/**/shard-*.parquet"))
    content = bytearray(shard.read_bytes())
    start_of_image = content.index(b"\xff\xd8\xff")
    content[start_of_image : start_of_image + 64] = bytes(64)
    shard.write_bytes(content)
    launcher = start(
        Training(str(broken / manifest.parent.name / manifest.name), tmp_path / "runs"), "broken"
    )
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 5
    assert "can't be decoded" in errors
    assert "sample " in errors
    assert "Traceback" not in errors
