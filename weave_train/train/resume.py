"""Which checkpoint a run goes on from, and whether it may: same data, same order, same model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from weave_data.config import load_config
from weave_data.errors import ConfigError, TrainingError, VerificationError, WeaveError
from weave_data.shard import first_difference
from weave_train.checkpoint.frozen import checksum, frozen_sha256, frozen_values, restore_frozen
from weave_train.checkpoint.layout import Checkpoint, find_checkpoint_at, newest_checkpoint
from weave_train.checkpoint.reading import restore
from weave_train.checkpoint.run_files import read_run_file
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.engine.engine import TrainEngine
from weave_train.launch import Launch
from weave_train.loading import model_parts
from weave_train.models.model import VideoLanguageModel
from weave_train.order import ORDER_VERSION
from weave_train.train.agreement import raise_together
from weave_train.train.data import TrainingData
from weave_train.train.optimizer_state import stored_average
from weave_train.train.run_directory import describe_change
from weave_train.train.saving import FrozenWeights, run_store

__all__ = [
    "agree",
    "as_first",
    "check_unchanged",
    "data_state",
    "find_checkpoint",
    "restore_engine",
    "settle_frozen",
]

_BEFORE = {"shuffle_frames": False}
"""What runs meant that were saved before a setting was there."""


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
        "shuffle_frames": config.dataset.shuffle_frames,
    }


def find_checkpoint(config: PretrainConfig, run_dir: Path) -> Checkpoint | None:
    """Checkpoint that `--resume` means, if any.

    A run that was begun from another run's checkpoint goes on from its own newest one when the same
    command is given again.

    Raises:
        ConfigError: `never` in a run that has one; a named checkpoint that is not complete, or that is
            not the newest of a run that goes on; `checkpoint.uri` is another run's.
        VerificationError: See `read_checkpoint`.
    """
    own = newest_checkpoint(run_store(config, run_dir))
    if own is not None and config.resume == "never":
        raise ConfigError(
            f"resume: never, but {own.store.uri} has step-{own.step:06d}; give another --run_id "
            "or --resume auto",
            origin="command line",
        )
    if own is not None and config.checkpoint.uri is not None and own.state["run_id"] != run_dir.name:
        raise ConfigError(
            f"checkpoint.uri: {own.store.uri} holds checkpoints of run {own.state['run_id']!r}, this is run "
            f"{run_dir.name!r}; give each run a URI of its own",
            origin="command line",
        )
    if config.resume in ("auto", "never"):
        return own
    if own is not None and own.state["resumed_from"] == config.resume:
        return own  # what it began from may be gone by now
    named = find_checkpoint_at(config.resume)
    if own is None or named.uri == own.uri:
        return named
    if named.store.uri == own.store.uri:
        raise ConfigError(
            f"resume: {config.resume} is not the newest checkpoint of this run, which is {own.uri}: --resume "
            "auto goes on from that; to go on from the older one give another --run_id",
            origin="command line",
        )
    raise ConfigError(
        f"resume: {config.resume} is not what this run goes on from, which is {own.uri}; its steps would be "
        "mixed with those of another past: give another --run_id, or --resume auto",
        origin="command line",
    )


def as_first(checkpoint: Checkpoint | None, launch: Launch) -> Checkpoint | None:
    """The first rank's checkpoint, on every rank.

    What a killed run was still writing may become complete between two ranks' looks at the store.

    Args:
        checkpoint: What this rank found.
        launch: Rank and world size; the process group is up.

    Raises:
        TrainingError: Only some ranks found one, or they lie in different places.
        WeaveError: The first rank's can't be read here.
    """
    if launch.world_size == 1:
        return checkpoint
    firsts = [None if checkpoint is None else checkpoint.uri]
    torch.distributed.broadcast_object_list(firsts, src=0)
    failure: WeaveError | None = None
    if checkpoint is not None and firsts[0] is not None and checkpoint.uri != firsts[0]:
        try:
            checkpoint = find_checkpoint_at(firsts[0])
        except WeaveError as error:
            failure = error
    if _any_failed(failure, launch):
        raise_together(failure, launch)
    agree(checkpoint.uri if checkpoint else None, launch, what="which checkpoint to resume")
    return checkpoint


def check_unchanged(
    data: TrainingData,
    settings: ModelSettings,
    checkpoint: Checkpoint | None,
    state: dict[str, Any],
    *,
    stage: str,
) -> None:
    """A resumed run reads the same data in the same order into the same model, and trains the same of it.

    Raises:
        ConfigError: It would not; says what changed.
    """
    if checkpoint is None:
        return
    before = read_run_file(checkpoint.store, "config.json")
    stored = {key: checkpoint.state["data"].get(key, _BEFORE.get(key)) for key in state}
    if stored["manifest_fingerprint"] != state["manifest_fingerprint"]:
        change = describe_change(before.get("dataset", {}), data.describe())
        raise ConfigError(
            f"{checkpoint.uri}: the data set changed since: {change}; give the manifest the run was "
            "trained on (OUTPUT/<recipe>/manifests/<fingerprint>.json), or another --run_id"
        )
    problems = [f"{key} was {stored[key]!r}, is {state[key]!r}" for key in state if stored[key] != state[key]]
    trained_stage = before.get("pretrain", {}).get("stage", stage)
    if trained_stage != stage:
        problems.append(f"stage was {trained_stage!r}, is {stage!r}")
    # a run from before a setting was there has its default
    trained = load_config(ModelSettings, before.get("model", {}), origin=checkpoint.uri)
    found = first_difference(trained.model_dump(mode="json"), settings.model_dump(mode="json"), path="model")
    if found is not None:
        problems.append(f"{found.path} was {found.theirs!r}, is {found.ours!r}")
    if problems:
        raise ConfigError(
            [f"{problem}; resume with the run's own flags or give another --run_id" for problem in problems],
            origin=checkpoint.uri,
        )


def settle_frozen(vlm: VideoLanguageModel, checkpoint: Checkpoint | None, launch: Launch) -> FrozenWeights:
    """Frozen weights of a run: equal on all ranks, and the run's own when it is resumed.

    Where building the model gave others (the file they come from changed), the stored ones are put back.

    Args:
        vlm: With its stage applied; before an engine takes it.
        checkpoint: To resume from, if any.
        launch: Rank and world size.

    Raises:
        VerificationError: The checkpoint's are missing, damaged or of other parts.
        TrainingError: Ranks have different weights.
    """
    parts = {name: part for name, part in model_parts(vlm).items() if frozen_values(part)}
    digests = {name: frozen_sha256(part) for name, part in parts.items()}
    if checkpoint is not None:
        if checkpoint.frozen.keys() != digests.keys():
            raise VerificationError(
                f"{checkpoint.uri}: does not train {_named(checkpoint.frozen)}, these flags would not train "
                f"{_named(digests)}; resume with the run's own --stage, --trainable and --lora, or start "
                "another run from it"
            )
        for name, expected in checkpoint.frozen.items():
            if digests[name] != expected:
                restore_frozen(checkpoint.store, name, parts[name], sha256=expected)
                digests[name] = frozen_sha256(parts[name])
    for name, digest in digests.items():
        agree(digest, launch, what=f"the frozen weights of {name!r}")
    return FrozenWeights(digests, checksum(vlm.tower) if vlm.core.vision is None else None)


def _named(parts: Mapping[str, str]) -> str:
    return " and ".join(sorted(parts)) or "nothing"


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
            f"{checkpoint.uri}: does not fit this model: {odd[0]} {list(odd[1])} is on one side only; "
            "resume with the run's own model flags"
        )
    failure: WeaveError | None = None
    try:
        restore(checkpoint, engine.fragments(), rank=launch.rank, world_size=launch.world_size)
    except WeaveError as error:
        failure = error
    if _any_failed(failure, launch):
        raise_together(failure, launch)
    engine.finish_restore(adam_step=checkpoint.state["adam_step"], average=stored_average(checkpoint))


def _any_failed(failure: WeaveError | None, launch: Launch) -> bool:
    has_failed = torch.tensor(int(failure is not None), device=launch.device)
    if launch.world_size > 1:
        torch.distributed.all_reduce(has_failed)
    return bool(has_failed)
