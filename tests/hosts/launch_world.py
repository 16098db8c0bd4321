"""Two hosts with sshd that share nothing but a bucket, a third to start runs from, one little data set."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from builders import write_woven_dataset
from netns import Host, Network, virtual_hosts
from servers import S3Server
from ssh_hosts import REPOSITORY, SshHosts, ssh_hosts

from weave_data.storage import open_store
from weave_train.checkpoint.layout import complete_steps
from weave_train.numbers import read_metrics

WAIT_SECONDS = 300
END_SECONDS = 120
"""Ten times what an end everywhere takes on a quiet machine."""


@dataclass(frozen=True)
class World:
    """See the module."""

    network: Network
    cluster: SshHosts
    bucket: str
    environment: dict[str, str]

    @property
    def manifest(self) -> str:
        """In the bucket."""
        return f"s3://{self.bucket}/woven/l4/manifest.json"

    @property
    def start(self) -> Host:
        """Where runs are started from."""
        return self.network.hosts[2]

    def flags(self, run_id: str, *extra: str) -> list[str]:
        """Nine rows a batch, two a micro-step; checkpoints in the bucket, all else on a host's own disk.

        Threads are left to the trainer, which has to choose alike under every launcher.
        """
        return [
            *("--dataset.manifest", self.manifest, "--model.type", "tiny", "--num_workers", "1"),
            *("--model.finetune_global_batch_size", "9", "--model.finetune_per_device_batch_size", "2"),
            *("--zero_stage", "2"),
            *("--run_root_dir", str(self.cluster.disk), "--run_id", run_id),
            *("--checkpoint.uri", f"s3://{self.bucket}/runs/{run_id}"),
            *extra,
        ]

    def launch(self, launcher: str, run_id: str, *extra: str) -> subprocess.Popen[str]:
        """Start on both hosts from the third."""
        return self.cluster.launch(
            self.start, ["--launcher", launcher, *self.flags(run_id, *extra)], self.environment
        )

    def here(self, run_id: str, *extra: str) -> Path:
        """The same run on this machine, without a launcher between; its directory."""
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

    def newest_checkpoint(self, run_id: str) -> int:
        """Step of the newest complete one in the bucket; 0: none."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return max(complete_steps(open_store(f"s3://{self.bucket}/runs/{run_id}")), default=0)

    def wait_for_steps(self, run_id: str, count: int, process: subprocess.Popen[str]) -> None:
        """Until the first rank has told of so many."""
        until(lambda: len(read_metrics(self.run_dir(run_id))) >= count or process.poll() is not None)
        assert process.poll() is None, process.communicate()

    def ranks_on(self, host: Host) -> list[psutil.Process]:
        """Processes there that have a rank, the oldest first."""
        found = []
        for pid in host.process_ids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if "RANK" in process.environ():
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def wait_until_idle(self) -> None:
        """No process is left on any host but sshd."""
        until(lambda: not any(self.cluster.busy().values()), seconds=END_SECONDS)


def until(holds: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """Poll; a failure after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run that goes well; what it printed."""
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said


@contextlib.contextmanager
def launch_world(s3: S3Server, folder: Path) -> Iterator[World]:
    """Make it; everything ends with the context."""
    bucket = s3.new_bucket()
    with virtual_hosts(3) as network, network.store(s3) as environment:
        for host in network.hosts:
            # as Debian writes it: a host's own name is an address that no other host reaches
            names = Path("/etc/netns") / host.namespace / "hosts"
            names.write_text(f"127.0.1.1 {host.name}\n{names.read_text()}")
        with ssh_hosts(network.hosts[:2], folder, disk=folder / "runs") as cluster:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                write_woven_dataset(f"s3://{bucket}/woven", rows=75, clips_per_sample=2, frames_per_sample=4)
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("OMP_NUM_THREADS", raising=False)
                yield World(network, cluster, bucket, environment)
