"""Starts whole training runs for tests and reads their metrics."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_train.launch import free_port, rank_environment
from weave_train.numbers import read_metrics
from weave_train.plugin import run_ranks

NUM_STEPS = 30
STOPPED_AT = 13
_REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(_REPOSITORY)}


@dataclass(frozen=True)
class Training:
    """Starts runs over one little data set, below one directory."""

    manifest: str
    root: Path

    def flags(self, run_id: str, *extra: str) -> list[str]:
        """Flags of a run: nine rows a batch, two a micro-step."""
        return [
            *("--dataset.manifest", self.manifest, "--model.type", "tiny", "--num_workers", "1"),
            *("--model.finetune_global_batch_size", "9", "--model.finetune_per_device_batch_size", "2"),
            *("--max_steps", str(NUM_STEPS), "--run_root_dir", str(self.root), "--run_id", run_id),
            *extra,
        ]

    def start(self, run_id: str, *extra: str, num_ranks: int = 2, launcher: str = "own") -> Path:
        """Run to the end; the run directory."""
        ours = ["-m", "weave_train", "pretrain", *self.flags(run_id, *extra)]
        if launcher == "own":
            code = run_ranks([sys.executable, *ours], num_ranks=num_ranks, environment=ENVIRONMENT)
        else:
            code = self._launch(launcher, ours, num_ranks)
        assert code == 0
        return self.root / run_id

    def alone(self, run_id: str, *extra: str) -> subprocess.CompletedProcess[str]:
        """Start without a launcher; its output and exit code."""
        return self.command("pretrain", *self.flags(run_id, *extra))

    def begin(self, run_id: str, *extra: str, **environment: str) -> subprocess.Popen[str]:
        """Start one rank, or as many as `--num_ranks` says, and leave it running."""
        command = [sys.executable, "-m", "weave_train", "pretrain", *self.flags(run_id, *extra)]
        return subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `weave-train` with these arguments."""
        return self._execute([sys.executable, "-m", "weave_train", *arguments])

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a script of tests/train_engine."""
        return self._execute([sys.executable, str(Path(__file__).parent / "train_engine" / name), *arguments])

    def copy(self, run_id: str, new_id: str) -> None:
        """Another run with the same past."""
        shutil.copytree(self.root / run_id, self.root / new_id)

    def _execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **ENVIRONMENT}
        return subprocess.run(
            list(command), env=environment, capture_output=True, text=True, timeout=500, check=False
        )

    def _launch(self, launcher: str, ours: list[str], num_ranks: int) -> int:
        tools = Path(sys.executable).parent
        count = str(num_ranks)
        if launcher == "torchrun":
            command = [
                str(tools / "torchrun"),
                "--nproc-per-node",
                count,
                "--master-port",
                str(free_port()),
                *ours,
            ]
        else:
            port = ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
            command = [str(tools / "deepspeed"), "--num_accelerators", count, *port, "--module", *ours[1:]]
        environment = {**os.environ, **ENVIRONMENT, "DS_ACCELERATOR": "cpu"}
        environment["PATH"] = f"{tools}:{environment['PATH']}"
        return subprocess.run(command, env=environment, timeout=500, check=False).returncode


def wait_for_steps(run_dir: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until a run that `process` trains has told of so many steps, or has ended."""
    deadline = time.monotonic() + 300
    while len(read_metrics(run_dir)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ends_of_ranks(
    script: Path, *words: str, num_ranks: int = 2, timeout: float
) -> tuple[list[int], list[str]]:
    """Exit codes and standard error of a script's ranks, in order; nobody ends a rank but itself."""
    port = free_port()
    shared = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *words],
            env={**shared, **rank_environment(rank, world_size=num_ranks, port=port)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        errors = [rank.communicate(timeout=timeout)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.returncode for rank in ranks], errors


def column(run_dir: Path, name: str) -> list[Any]:
    """One metric of every step."""
    return [line[f"Finetune/{name}"] for line in read_metrics(run_dir)]
