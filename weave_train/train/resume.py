"""Which checkpoint a run goes on from, and whether it may: same data, same order, same model, same tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weave_data.errors import ConfigError, TrainingError, VerificationError
from weave_data.shard import first_difference
from weave_train.checkpoint.layout import (
    Checkpoint,
    newest_checkpoint,
    read_checkpoint,
    restore,
    verify_pieces,
)
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.engine.engine import TrainEngine
from weave_train.launch import Launch
from weave_train.models.model import VideoLanguageModel, tower_sha256
from weave_train.order import ORDER_VERSION
from weave_train.train.data import TrainingData
from weave_train.train.run_directory import describe_change, read_run_config

__all__ = ["agree", "check_tower", "check_unchanged", "data_state", "find_checkpoint", "restore_engine"]


def data_state(config: PretrainConfig, data: TrainingData) -> dict[str, Any]:
    """What fixes the order of rows. World size, workers and ZeRO stage are not in it."""
    return {
        "manifest_fingerprint": data.fingerprint,
        "split": data.split,
        "order": config.order,
        "order_version": ORDER_VERSION,
        "seed": config.seed,
        "batch_rows": config.hyper.global_batch_size,
        "window_groups": config.window_groups,
    }


def find_checkpoint(config: PretrainConfig, run_dir: Path) -> Checkpoint | None:
    """Checkpoint that `--resume` means, if any.

    Raises:
        ConfigError: `never` in a run that has one, or a directory without a complete one.
        VerificationError: See `read_checkpoint`.
    """
    if config.resume not in ("auto", "never"):
        return read_checkpoint(Path(config.resume))
    newest = newest_checkpoint(run_dir)
    if newest is None:
        return None
    if config.resume == "never":
        raise ConfigError(
            f"resume: never, but {run_dir} has {newest.name}; give another --run_id or --resume auto",
            origin="command line",
        )
    return read_checkpoint(newest)


def check_unchanged(
    data: TrainingData,
    settings: ModelSettings,
    checkpoint: Checkpoint | None,
    state: dict[str, Any],
) -> None:
    """A resumed run reads the same data in the same order into the same model.

    Raises:
        ConfigError: It would not; says what changed.
    """
    if checkpoint is None:
        return
    before = read_run_config(checkpoint.directory.parents[1]) or {}
    stored = {key: checkpoint.state["data"].get(key) for key in state}
    if stored["manifest_fingerprint"] != state["manifest_fingerprint"]:
        change = describe_change(before.get("dataset", {}), data.describe())
        raise ConfigError(
            f"{checkpoint.directory}: the data set changed since: {change}; give the manifest the run was "
            "trained on (OUTPUT/<recipe>/manifests/<fingerprint>.json), or another --run_id"
        )
    problems = [f"{key} was {stored[key]!r}, is {state[key]!r}" for key in state if stored[key] != state[key]]
    found = first_difference(before.get("model", {}), settings.model_dump(mode="json"), path="model")
    if found is not None:
        problems.append(f"{found.path} was {found.theirs!r}, is {found.ours!r}")
    if problems:
        raise ConfigError(
            [f"{problem}; resume with the run's own flags or give another --run_id" for problem in problems],
            origin=str(checkpoint.directory),
        )


def check_tower(vlm: VideoLanguageModel, checkpoint: Checkpoint | None, launch: Launch) -> str:
    """Sum of the frozen tower: equal on all ranks and to the checkpoint's.

    Raises:
        VerificationError: The checkpoint was trained with another tower.
        TrainingError: Ranks have different towers.
    """
    digest = tower_sha256(vlm.tower)
    agree(digest, launch, what="the frozen tower's weights")
    if checkpoint is not None and checkpoint.tower_sha256 != digest:
        raise VerificationError(
            f"{checkpoint.directory}: was trained with a frozen tower of sha256 "
            f"{checkpoint.tower_sha256[:12]}..., these flags give {digest[:12]}...; "
            "resume with the same vision weights and seed"
        )
    return digest


def agree(value: str | None, launch: Launch, *, what: str) -> None:
    """All ranks hold the same value, or every one of them stops.

    Raises:
        TrainingError: They don't.
    """
    if launch.world_size == 1:
        return
    values: list[str | None] = [None] * launch.world_size
    torch.distributed.all_gather_object(values, value)
    if len(set(values)) != 1:
        raise TrainingError(f"ranks disagree on {what}: {values}; give all of them the same files and flags")


def restore_engine(engine: TrainEngine, checkpoint: Checkpoint, launch: Launch) -> None:
    """Put a checkpoint's masters and optimizer states where this rank's partitions are.

    Raises:
        VerificationError: The checkpoint is damaged or of another model.
    """
    if dict(checkpoint.shapes) != dict(engine.shapes):
        odd = sorted(set(checkpoint.shapes.items()) ^ set(engine.shapes.items()))[0]
        raise VerificationError(
            f"{checkpoint.directory}: does not fit this model: {odd[0]} {list(odd[1])} is on one side only; "
            "resume with the run's own model flags"
        )
    verify_pieces(checkpoint, kinds=("weights", "optimizer"), part=(launch.rank, launch.world_size))
    restore(checkpoint, engine.fragments())
    engine.finish_restore(adam_step=checkpoint.state["adam_step"])
