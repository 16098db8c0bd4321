"""One run, whoever starts its ranks, however many there are and however they cut the batch."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from raycluster import ray_head
from training_runs import ENVIRONMENT, Training, column, wait_for_steps

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

STEPS = "9"  # of nine or ten a data epoch has: its last, smaller batch is among them


@pytest.fixture(scope="module")
def alone(training: Training) -> Path:
    done = training.alone("launched-alone", "--zero_stage", "0", "--max_steps", STEPS)
    assert done.returncode == 0, done.stderr
    return training.root / "launched-alone"


def assert_same(run_dir: Path, reference: Path) -> None:
    assert len(column(reference, "Step")) == int(STEPS)
    assert column(run_dir, "Ledger") == column(reference, "Ledger")
    assert column(run_dir, "Loss (Raw)") == pytest.approx(column(reference, "Loss (Raw)"), rel=1e-5)


def begin_on_ray(
    training: Training, run_id: str, address: str, num_ranks: int, *extra: str
) -> subprocess.Popen[str]:
    flags = training.flags(run_id, "--zero_stage", "2", *extra)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "weave_train", "pretrain", "--launcher", "ray"),
            *("--num_ranks", str(num_ranks), *flags),
        ],
        env={**os.environ, **ENVIRONMENT, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_ray(
    training: Training, run_id: str, address: str, num_ranks: int, *extra: str
) -> subprocess.CompletedProcess[str]:
    process = begin_on_ray(training, run_id, address, num_ranks, "--max_steps", STEPS, *extra)
    out, errors = process.communicate(timeout=500)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def test_ray_train_gives_the_same_run_and_hands_errors_on(
    training: Training, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    with ray_head(tmp_path, num_cpus=2) as head:
        done = on_ray(training, "launched-ray", head.gcs_address, 2)
        assert done.returncode == 0, done.stderr
        assert f"step {STEPS}, loss" in done.stdout
        assert_same(training.root / "launched-ray", alone)
        refused = on_ray(training, "launched-ray", head.gcs_address, 2, "--resume", "never")
        assert refused.returncode == 2, refused.stderr
        assert "resume: never" in refused.stderr
        full = on_ray(training, "too-many", head.gcs_address, 3)
        assert full.returncode == 3, full.stderr
        assert "the Ray cluster has 2 CPUs" in full.stderr
        assert_sigterm_saves_and_ends(training, alone, head.gcs_address)


HOLDER = """
import ray, time
ray.init()

@ray.remote(num_cpus=2)
class Holder:
    def hold(self):
        return "held"

holder = Holder.remote()
print(ray.get(holder.hold.remote()), flush=True)
time.sleep(1000)
"""


@pytest.mark.slow
def test_a_run_that_finds_a_full_cluster_ends_and_says_so(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1")
    with ray_head(tmp_path, num_cpus=2) as head:
        environment = {**os.environ, "RAY_ADDRESS": head.gcs_address}
        command = [sys.executable, "-c", HOLDER]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert "held" in holder.stdout.readline()
            done = on_ray(training, "no-room", head.gcs_address, 2, "--max_restarts", "3")
            holder.kill()
    assert done.returncode == 3, done.stderr
    assert "Ray Train could start no ranks in 11 attempts" in done.stderr


def assert_sigterm_saves_and_ends(training: Training, alone: Path, address: str) -> None:
    run_dir, steps = training.root / "stopped-on-ray", ("--max_steps", "4000", "--max_restarts", "1")
    process = begin_on_ray(training, run_dir.name, address, 2, *steps)
    wait_for_steps(run_dir, int(STEPS), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    taken = len(column(run_dir, "Step"))
    assert int(STEPS) <= taken < 4000
    assert [path.name for path in (run_dir / "checkpoints").glob("step-*")] == [f"step-{taken:06d}"]
    assert column(run_dir, "Ledger")[: int(STEPS)] == column(alone, "Ledger")


SHAPES = [
    # ranks, rows of a micro-step, threads of the feed
    *[
        pytest.param(*shape, marks=pytest.mark.slow)
        for shape in itertools.product((1, 2, 4), (1, 2, 9), (0, 1, 3))
    ],
    pytest.param(3, 2, 3),
]


@pytest.mark.parametrize(("num_ranks", "micro_rows", "num_workers"), SHAPES)
def test_ranks_accumulation_and_threads_change_nothing(
    training: Training, alone: Path, num_ranks: int, micro_rows: int, num_workers: int
) -> None:
    run_dir = training.start(
        f"shape-{num_ranks}-{micro_rows}-{num_workers}",
        *("--zero_stage", "2", "--max_steps", STEPS, "--num_workers", str(num_workers)),
        *("--model.finetune_per_device_batch_size", str(micro_rows)),
        num_ranks=num_ranks,
    )
    assert_same(run_dir, alone)
