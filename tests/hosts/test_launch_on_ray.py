"""The same run as workers of Ray Train on two nodes, started there or by `ray job submit`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from builders import write_woven_dataset
from expected_ledgers import expected_ledgers
from netns import virtual_hosts
from ray_hosts import RAY, RayHosts, ray_hosts
from servers import S3Server
from training_runs import Training, column, wait_for_steps

REPOSITORY = Path(__file__).parents[2]
STEPS = "6"

pytestmark = [
    pytest.mark.process,
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.xdist_group("launch"),
]


@dataclass(frozen=True)
class Cluster:
    """Two nodes with one CPU each, a bucket with a data set."""

    ray: RayHosts
    bucket: str
    root: Path
    environment: dict[str, str]

    @property
    def manifest(self) -> str:
        return f"s3://{self.bucket}/woven/l4/manifest.json"

    def options(self, run_id: str, *extra: str) -> list[str]:
        return [
            *("--model.type", "tiny", "--num_workers", "1", "--zero_stage", "2"),
            *("--model.finetune_global_batch_size", "9", "--model.finetune_per_device_batch_size", "2"),
            *("--max_steps", STEPS, "--run_root_dir", str(self.root), "--run_id", run_id),
            *("--checkpoint.uri", f"s3://{self.bucket}/runs/{run_id}", *extra),
        ]

    def launch(self, run_id: str, *extra: str) -> subprocess.Popen[str]:
        """Two workers, started on the first node."""
        head = self.ray.nodes[0].host
        ours = ["launch", "--launcher", "ray", "--num_ranks", "2", "--dataset.manifest", self.manifest]
        return head.start(
            [sys.executable, "-m", "weave_train", *ours, *self.options(run_id, *extra)],
            env={**self.ray.environment, "RAY_ADDRESS": f"{head.address}:6379"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker_on(self, node: int) -> psutil.Process:
        """Process of the rank there."""
        for pid in self.ray.nodes[node].host.process_ids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"no worker on node {node}")

    def here(self, run_id: str, *extra: str) -> Path:
        """On this machine, without Ray."""
        flags = ["--dataset.manifest", self.manifest, *self.options(run_id, *extra)]
        done = subprocess.run(
            [sys.executable, "-m", "weave_train", "pretrain", *flags],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return self.root / run_id


@pytest.fixture(scope="module")
def cluster(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    bucket = s3.new_bucket()
    with virtual_hosts(2) as network, network.store(s3) as store:
        for host in network.hosts:
            # as Debian writes it: a host's own name is an address that no other host reaches
            names = Path("/etc/netns") / host.namespace / "hosts"
            names.write_text(f"127.0.1.1 {host.name}\n{names.read_text()}")
        environment = {**store, "PYTHONPATH": str(REPOSITORY)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in store.items():
                patch.setenv(name, value)
            write_woven_dataset(f"s3://{bucket}/woven", rows=75, clips_per_sample=2, frames_per_sample=4)
        with (
            ray_hosts(network, folder, cpus=(1, 1), environment=environment) as nodes,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.delenv("OMP_NUM_THREADS", raising=False)  # the trainer has to choose alike everywhere
            yield Cluster(nodes, bucket, folder / "runs", environment)


@pytest.fixture(scope="module")
def two_here(cluster: Cluster) -> Path:
    return cluster.here("two-here", "--num_ranks", "2")


def test_two_nodes_give_the_run_of_two_processes_and_one_process_resumes_it(
    cluster: Cluster, two_here: Path
) -> None:
    for run_id, extra in (("whole", ()), ("begun", ("--stop_after_steps", "3"))):
        process = cluster.launch(run_id, *extra)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    whole = cluster.root / "whole"
    assert column(whole, "Ledger") == column(two_here, "Ledger")
    assert column(whole, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)"), rel=1e-6)
    resumed = cluster.here("begun")
    assert column(resumed, "Ledger") == column(two_here, "Ledger")
    assert column(resumed, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)"), rel=1e-4)


def test_a_killed_worker_ends_no_run_with_restarts_and_another_launcher_goes_on(cluster: Cluster) -> None:
    flags = ("--max_steps", "30", "--save_every_steps", "2")
    run_dir = cluster.root / "killed"
    process = cluster.launch("killed", *flags, "--stop_after_steps", "15", "--max_restarts", "1")
    wait_for_steps(run_dir, 7, process)  # step 6 is saved after step 4's is complete
    cluster.worker_on(1).kill()
    kept = (run_dir / "metrics.jsonl").read_bytes().splitlines()[:4]
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert "restart 1 of 1" in errors
    taken = len(column(run_dir, "Step"))
    assert 4 + 15 <= taken < 30
    assert cluster.here("killed", *flags) == run_dir
    assert (run_dir / "metrics.jsonl").read_bytes().splitlines()[:4] == kept  # not taken again
    assert column(run_dir, "Step") == list(range(1, 31))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        expected = expected_ledgers(Training(cluster.manifest, cluster.root), *flags, num_steps=30)
    assert column(run_dir, "Ledger") == expected


def test_weave_data_train_by_ray_job_submit_gives_the_same_run(cluster: Cluster, two_here: Path) -> None:
    done = cluster.ray.run(
        [
            *(RAY, "job", "submit", "--address", cluster.ray.dashboard, "--"),
            *(sys.executable, "-m", "weave_data", "train", cluster.manifest, "--trainer", "deepspeed"),
            *("--num_ranks", "2", "--launcher", "ray", *cluster.options("submitted")),
        ],
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"step {STEPS}, loss" in done.stdout
    submitted = cluster.root / "submitted"
    assert column(submitted, "Ledger") == column(two_here, "Ledger")
    assert column(submitted, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)"), rel=1e-6)
