"""One run on two hosts that share nothing but the store, whoever starts its ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import write_woven_dataset
from netns import Network, virtual_hosts
from servers import S3Server
from ssh_hosts import REPOSITORY, SshHosts, ssh_hosts
from training_runs import column

pytestmark = [
    pytest.mark.process,
    pytest.mark.server,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("launch"),
]

STEPS = 6


@dataclass(frozen=True)
class World:
    """Two hosts with sshd, a third to start from, a bucket with a data set."""

    network: Network
    cluster: SshHosts
    bucket: str
    environment: dict[str, str]
    folder: Path

    @property
    def manifest(self) -> str:
        return f"s3://{self.bucket}/woven/l4/manifest.json"

    def flags(self, run_id: str, *extra: str) -> list[str]:
        """Nine rows a batch, two a micro-step; checkpoints in the bucket, all else on a host's own disk."""
        return [
            *("--dataset.manifest", self.manifest, "--model.type", "tiny", "--num_workers", "1"),
            *("--model.finetune_global_batch_size", "9", "--model.finetune_per_device_batch_size", "2"),
            *("--max_steps", str(STEPS), "--zero_stage", "2", "--num_threads", "1"),
            *("--run_root_dir", str(self.cluster.disk), "--run_id", run_id),
            *("--checkpoint.uri", f"s3://{self.bucket}/runs/{run_id}"),
            *extra,
        ]

    def launch(self, launcher: str, run_id: str, *extra: str) -> subprocess.Popen[str]:
        """Start on both hosts from the third."""
        return self.cluster.launch(
            self.network.hosts[2], ["--launcher", launcher, *self.flags(run_id, *extra)], self.environment
        )

    def alone(self, run_id: str, *extra: str) -> Path:
        """The same run here, without a launcher between; its directory."""
        done = subprocess.run(
            [sys.executable, "-m", "weave_train", "pretrain", *self.flags(run_id, *extra)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return self.cluster.disk / run_id

    def run_dir(self, run_id: str) -> Path:
        """As the host of the first rank has it."""
        return self.cluster.disk_of(self.network.hosts[0]) / run_id


@pytest.fixture(scope="module")
def world(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("launch")
    bucket = s3.new_bucket()
    with (
        virtual_hosts(3) as network,
        network.store(s3) as environment,
        ssh_hosts(network.hosts[:2], folder, disk=folder / "runs") as cluster,
    ):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            write_woven_dataset(f"s3://{bucket}/woven", rows=75, clips_per_sample=2, frames_per_sample=4)
        yield World(network, cluster, bucket, environment, folder)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run that goes well; what it printed."""
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said


def test_two_hosts_under_torchrun_give_the_run_of_one_process(world: World) -> None:
    alone = world.alone("alone")
    said = finish(world.launch("torchrun", "torchrun"))
    assert f"step {STEPS}, loss" in said
    two = world.run_dir("torchrun")
    assert len(column(two, "Step")) == STEPS
    assert column(two, "Ledger") == column(alone, "Ledger")
    assert column(two, "Loss (Raw)") == pytest.approx(column(alone, "Loss (Raw)"), rel=1e-4)
    assert not any(world.cluster.busy().values())
