"""`deepspeed`, the trainer that this package registers for woven data sets.

It starts its ranks as processes of this machine, over the loopback, or, with `launcher: ray`, as workers of
Ray Train wherever the cluster has room. Hosts with ssh are `weave-train launch`'s.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError, TrainingError
from weave_data.trainers import RunResult
from weave_train.checkpoint.layout import newest_checkpoint
from weave_train.config import PretrainConfig, load_pretrain_config, pretrain_yaml
from weave_train.launch import free_port, rank_environment
from weave_train.numbers import last_loss
from weave_train.overseer import EXITS_VARIABLE, PARENT_VARIABLE, TOLD_EXITS, ask_to_stop
from weave_train.train.saving import run_store
from weave_train.train.stop import StopRequest

__all__ = ["DeepSpeedTrainer", "run_local", "run_ranks"]

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0


class DeepSpeedTrainer:
    """`weave_data.trainers.Trainer` over DeepSpeed ZeRO."""

    name = "deepspeed"

    def run(self, manifest_uri: str, options: Mapping[str, Any], *, num_workers: int) -> RunResult:
        """Train in `num_workers` local processes, or Ray Train workers (option `launcher: ray`).

        Args:
            manifest_uri: Of the woven data set.
            options: Flags of `weave-train pretrain` by dotted name; `run_id` is required here.
            num_workers: Ranks.

        Raises:
            ConfigError: The options are wrong; found before any process starts.
            TrainingError: A rank failed; its own message went to standard error.
        """
        if num_workers < 1:
            raise ConfigError(f"num_workers: {num_workers}; training needs at least one process")
        if not isinstance(options.get("run_id"), str):
            raise ConfigError("run_id: required: the result is read from that run's directory")
        flags = {**options, "dataset.manifest": manifest_uri, "num_ranks": num_workers}
        config = load_pretrain_config(list(flags.items()), origin="options")
        if config.dry_run:
            raise ConfigError("dry_run: has no run to tell of; weave-train pretrain --dry_run shows it")
        if config.launcher == "ray":
            from weave_train.ray_launch import run_on_ray

            return run_on_ray(config, num_ranks=num_workers)
        run_dir = Path(config.run_root_dir) / config.resolved_run_id("")
        code = run_local(config, num_ranks=num_workers)
        if code != 0:
            raise TrainingError(f"training in {run_dir} ended with exit code {code}; see the messages above")
        newest = newest_checkpoint(run_store(config, run_dir))  # metrics may be another machine's
        assert newest is not None, "a run that went well has saved"
        return RunResult(
            run_dir=str(run_dir),
            final_step=newest.step,
            final_loss=last_loss(run_dir, stage=config.stage),
        )


def run_local(config: PretrainConfig, *, num_ranks: int) -> int:
    """Train in processes of this machine; returns as `run_ranks` does."""
    config = config.model_copy(update={"num_ranks": None})
    with tempfile.TemporaryDirectory(prefix="weave-train-") as scratch:
        path = Path(scratch) / "pretrain.yaml"
        path.write_text(pretrain_yaml(config), encoding="utf-8")
        command = [sys.executable, "-m", "weave_train", "pretrain", "--config", str(path)]
        return run_ranks(command, num_ranks=num_ranks, exits=Path(scratch))


def run_ranks(
    command: Sequence[str],
    *,
    num_ranks: int,
    environment: Mapping[str, str] | None = None,
    exits: Path | None = None,
) -> int:
    """Run one command as every rank of a local group; when one fails, the others are ended.

    SIGTERM is passed on, to ranks that train through `exits`. When this process is killed, they end, too
    (see `overseer.leave_with_parent`).

    Args:
        command: The same for all.
        num_ranks: World size.
        environment: Variables beside this process's own.
        exits: Folder in which ranks find the request to stop, also those that still load: they save and end.
            None: the signal itself is sent on.

    Returns:
        0, or the exit code of the first rank that failed; among several at once, one that says why.
    """
    port = free_port()
    base = {**os.environ, **(environment or {}), PARENT_VARIABLE: str(os.getpid())}
    base |= {} if exits is None else {EXITS_VARIABLE: str(exits)}
    ranks: list[subprocess.Popen[bytes]] = []
    is_passed_on = False
    with StopRequest() as stop:
        try:
            for rank in range(num_ranks):
                variables = {**base, **rank_environment(rank, world_size=num_ranks, port=port)}
                ranks.append(subprocess.Popen(list(command), env=variables, start_new_session=True))
            while True:
                if stop.is_made and not is_passed_on:
                    is_passed_on = True
                    _pass_on(ranks, exits)
                codes = [process.poll() for process in ranks]
                failed = [code for code in codes if code]
                if failed:
                    return next((code for code in failed if code in TOLD_EXITS), failed[0])
                if all(code == 0 for code in codes):
                    return 0
                time.sleep(_POLL_SECONDS)
        finally:
            _end(ranks)


def _pass_on(ranks: Sequence[subprocess.Popen[bytes]], exits: Path | None) -> None:
    if exits is not None:
        ask_to_stop(exits)
        return
    for process in ranks:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Leave no rank behind, nor what it started."""
    alive = [process for process in ranks if process.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in alive:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
