"""The same run as workers of Ray Train on two nodes, started there or by `ray job submit`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import write_woven_dataset
from netns import virtual_hosts
from ray_hosts import RAY, RayHosts, ray_hosts
from servers import S3Server
from training_runs import column

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
            *("--model.type", "tiny", "--num_workers", "1", "--zero_stage", "2", "--num_threads", "1"),
            *("--model.finetune_global_batch_size", "9", "--model.finetune_per_device_batch_size", "2"),
            *("--max_steps", STEPS, "--run_root_dir", str(self.root), "--run_id", run_id),
            *("--checkpoint.uri", f"s3://{self.bucket}/runs/{run_id}", *extra),
        ]

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
        with ray_hosts(network, folder, cpus=(1, 1), environment=environment) as nodes:
            yield Cluster(nodes, bucket, folder / "runs", environment)


@pytest.fixture(scope="module")
def two_here(cluster: Cluster) -> Path:
    return cluster.here("two-here", "--num_ranks", "2")


def test_two_nodes_give_the_run_of_two_processes_and_one_process_resumes_it(
    cluster: Cluster, two_here: Path
) -> None:
    head = cluster.ray.nodes[0].host
    for run_id, extra in (("whole", ()), ("begun", ("--stop_after_steps", "3"))):
        flags = ["--dataset.manifest", cluster.manifest, *cluster.options(run_id, *extra)]
        done = head.run(
            [
                *(sys.executable, "-m", "weave_train", "launch", "--launcher", "ray", "--num_ranks", "2"),
                *flags,
            ],
            env={**cluster.ray.environment, "RAY_ADDRESS": f"{head.address}:6379"},
        )
        assert done.returncode == 0, done.stderr
    whole = cluster.root / "whole"
    assert column(whole, "Ledger") == column(two_here, "Ledger")
    assert column(whole, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)"), rel=1e-6)
    resumed = cluster.here("begun")
    assert column(resumed, "Ledger") == column(two_here, "Ledger")
    assert column(resumed, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)"), rel=1e-4)


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
