"""From a configuration to a run that can take its next step: data, order, model, engine, resume."""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weave_data.errors import ConfigError
from weave_train.checkpoint.layout import Checkpoint
from weave_train.checkpoint.run_files import fetch_run_files
from weave_train.checkpoint.writer import CheckpointWriter
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.engine.deepspeed_config import EngineSettings, offloads, read_deepspeed_file
from weave_train.engine.engine import TrainEngine, init_process_group
from weave_train.engine.stages import apply_stage, trains_tower
from weave_train.feed import RowFeed, RowSource, check_stored_size, feed_limits, open_sources
from weave_train.launch import Launch
from weave_train.models.context import check_context
from weave_train.models.language import LanguageOptions
from weave_train.models.lora import add_lora
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.parts import PARTS
from weave_train.models.tokenizer import load_tokenizer, resolve_tokenizer, save_tokenizer
from weave_train.order import BatchOrder, rank_slots
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.train.claim import Claim
from weave_train.train.data import TrainingData, open_data, sample_texts
from weave_train.train.meter import StepMeter
from weave_train.train.optimizer_state import check_optimizer, optimizer_id
from weave_train.train.resume import (
    as_first,
    check_unchanged,
    data_state,
    find_checkpoint,
    restore_engine,
    settle_frozen,
)
from weave_train.train.run_directory import model_settings, write_run_config
from weave_train.train.saving import FrozenWeights, run_store, write_run_files
from weave_train.train.sharing import shared_folder
from weave_train.train.validation import ValidationSet, validation_set
from weave_train.train.warm_start import Donor, find_donor
from weave_train.train.watchdog import Watchdog

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PreparedRun", "engine_settings", "prepare_run"]


@dataclass
class PreparedRun:
    """A run before its next step.

    Attributes:
        meter: Of its steps.
        held_out: What it validates on, if anything.
        writer: Of its checkpoints.
        frozen: Weights it does not train.
        resumed_from: `--resume`, as it named another run's checkpoint to begin from.
        data_state: What fixes the order; equal on resume, or the run is refused.
        num_steps: Of the whole run.
        step: Optimizer steps taken.
        ledger: Hash chain over the sample ids of those steps.
        skipped_steps: Of `step`, those whose loss or gradients were not finite.
        save_seconds: For which this process stood still for checkpoints, as far as reported.
        claim: The first rank's, on `run_dir`.
    """

    config: PretrainConfig
    launch: Launch
    run_dir: Path
    order: BatchOrder
    slots: range
    feed: RowFeed[EncodedRow]
    vlm: VideoLanguageModel
    engine: TrainEngine
    meter: StepMeter
    held_out: ValidationSet | None
    writer: CheckpointWriter
    frozen: FrozenWeights
    resumed_from: str | None
    data_state: dict[str, Any]
    num_steps: int
    step: int
    ledger: str
    skipped_steps: int = 0
    save_seconds: float = 0.0
    claim: Claim | None = None


def prepare_run(
    config: PretrainConfig, launch: Launch, *, is_dry: bool = False, watch: Watchdog | None = None
) -> PreparedRun:
    """Set a run up on every rank, resumed as `config.resume` says.

    Args:
        config: Of the run.
        launch: Rank, world size, device.
        is_dry: Write nothing; the run can't be saved.
        watch: Of this rank, if it is watched: told which part is loaded.

    Raises:
        ConfigError: The configuration, the data set or the run directory don't fit each other.
        StoreError: The data set can't be read.
        VerificationError: The checkpoint is damaged or belongs to another tower or model.
    """
    watch = watch or Watchdog(None, launch, config.watch.resolved_load_timeout_s)
    watch.enter("load data")
    data = open_data(config, world_size=launch.world_size)
    settings = model_settings(config, data.configuration)
    check_context(settings, num_frames=data.num_frames)
    held_out = _held_out(config)
    for source in [*data.sources, held_out] if held_out else data.sources:
        check_stored_size(source, settings, allow_upscaling=config.feed.allow_upscaling)
    watch.run_dir = run_dir = Path(config.run_root_dir) / config.resolved_run_id(data.recipe)
    order = data.order
    slots = rank_slots(launch.rank, world_size=launch.world_size, batch_rows=order.batch_rows)
    for_engine = engine_settings(config, launch)
    state = data_state(config, data)
    checkpoint = find_checkpoint(config, run_dir)
    check_unchanged(data, settings, checkpoint, state, stage=config.stage)
    check_optimizer(config, checkpoint)
    donor = find_donor(config, recipe=data.recipe) if checkpoint is None else None

    watch.enter("meet other ranks")
    init_process_group(launch, timeout_seconds=config.watch.collective_timeout_s)
    checkpoint = as_first(checkpoint, launch)
    # before minutes go into the model: whoever trains in this directory yet ends with its step
    claim = Claim(run_dir) if launch.is_first and not is_dry else None
    past = checkpoint or donor
    watch.enter("load tokenizer")
    if is_dry:
        tokenizer = _known_tokenizer(past) or _new_tokenizer(config, settings, data)
    else:
        tokenizer = _tokenizer(config, settings, data, run_dir, past, launch)
    watch.enter("load model")
    vlm, scales = _model(config, settings, tokenizer, donor, None if is_dry else run_dir, launch)
    meter = StepMeter.over(vlm, config=config, launch=launch)
    watch.enter("compare frozen weights")
    frozen = settle_frozen(vlm, checkpoint, launch)
    store = run_store(config, run_dir)
    is_new = checkpoint is None or checkpoint.store.uri != store.uri
    watch.enter("write run files")
    if launch.is_first and not is_dry:
        write_run_config(run_dir, config=config, settings=settings, dataset=data.describe())
        write_run_files(vlm, frozen, run_dir=run_dir, store=store, is_new=is_new)
    watch.enter("build engine")
    engine = TrainEngine(vlm.core, replace(for_engine, parameter_lr_scale=scales), launch)
    if checkpoint is not None:
        watch.enter("restore checkpoint")
        restore_engine(engine, checkpoint, launch)
    writer = CheckpointWriter(store, launch=launch, settings=config.checkpoint)
    if not is_dry:
        writer.reserve(engine.fragments())
    watch.enter("open feed")
    num_steps = config.hyper.max_steps or order.num_steps(config.hyper.epochs)
    encode = functools.partial(
        make_row,
        tokenizer=tokenizer,
        settings=settings,
        shuffle_frames=config.dataset.shuffle_frames,
    )
    return PreparedRun(
        config=config,
        launch=launch,
        run_dir=run_dir,
        order=order,
        slots=slots,
        feed=RowFeed(
            data.sources,
            order,
            slots=slots,
            encode=encode,
            stop_step=num_steps,
            limits=feed_limits(config),
        ),
        vlm=vlm,
        engine=engine,
        meter=meter,
        held_out=None
        if held_out is None
        else validation_set(
            held_out,
            config=config,
            encode=encode,
            limits=feed_limits(config),
            rank_rows=for_engine.micro_batch_rows,
            world_size=launch.world_size,
        ),
        writer=writer,
        frozen=frozen,
        resumed_from=config.resume if checkpoint and is_new else _origin(checkpoint),
        data_state=state,
        num_steps=num_steps,
        step=checkpoint.step if checkpoint else 0,
        ledger=checkpoint.state["data"]["ledger"] if checkpoint else "",
        skipped_steps=checkpoint.state.get("skipped_steps", 0) if checkpoint else 0,
        claim=claim,
    )


def _held_out(config: PretrainConfig) -> RowSource | None:
    dataset = config.validation_dataset
    return None if dataset is None else open_sources(dataset, config=config)[0]


def engine_settings(config: PretrainConfig, launch: Launch) -> EngineSettings:
    """How a run's engine shards and steps.

    Args:
        config: Of the run.
        launch: Whose world size is used.

    Raises:
        ConfigError: A DeepSpeed file can't be read or contradicts the flags.
    """
    hyper = config.hyper
    stage = config.resolved_zero_stage
    extra: dict[str, Any] = {}
    if config.deepspeed is not None:
        stage, extra = read_deepspeed_file(Path(config.deepspeed))
        if stage == 0 and config.precision == "bf16":
            raise ConfigError(
                f"{config.deepspeed}: ZeRO stage 0 trains in fp32 only; add "
                "--model.enable_mixed_precision_training false"
            )
    rank_rows = -(-hyper.global_batch_size // launch.world_size)
    micro_rows = min(hyper.per_device_batch_size, rank_rows)
    settings = EngineSettings(
        zero_stage=stage,
        precision=config.precision,
        micro_batch_rows=micro_rows,
        micro_steps=math.ceil(rank_rows / micro_rows),
        max_grad_norm=hyper.max_grad_norm,
        weight_decay=hyper.weight_decay,
        lr_scale={part: getattr(config.lr_scale, part) for part in PARTS},
        optimizer=optimizer_id(config),
        master_weights=config.master_weights,
        reduce_in_full_precision=config.model.reduce_in_full_precision,
        extra=extra,
    )
    if settings.master_weights == "bf16" and offloads(settings):
        raise ConfigError(
            f"{config.deepspeed}: optimizer states in host memory are fp32 only (DeepSpeed's bf16 Adam for "
            "CPUs needs a compiler); leave --master_weights bf16 or offload_optimizer out"
        )
    return settings


def _model(
    config: PretrainConfig,
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    donor: Donor | None,
    run_dir: Path | None,
    launch: Launch,
) -> tuple[VideoLanguageModel, dict[str, float]]:
    """With what its stage trains marked, and factors of the learning rate by parameter."""
    vlm = build_model(
        settings,
        tokenizer,
        device=launch.device,
        trains_vision=trains_tower(config.stage, config.trainable),
        language_options=LanguageOptions(attention=config.model.attention, hf_token=config.hf_token),
    )
    if donor is not None:
        _begin_with(donor, vlm, run_dir, launch)
    if settings.lora is not None:
        add_lora(vlm.core, settings.lora, seed=settings.seed)
    scales = apply_stage(vlm, config.stage, config.trainable)
    if config.model.enable_gradient_checkpointing:
        vlm.core.recompute_activations()
    return vlm, scales


def _begin_with(donor: Donor, vlm: VideoLanguageModel, run_dir: Path | None, launch: Launch) -> None:
    start = donor.give(vlm)
    if launch.is_first:
        sys.stderr.write(f"weave-train: {start.describe()}\n")
    if launch.is_first and run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        start.write(run_dir)


def _new_tokenizer(
    config: PretrainConfig, settings: ModelSettings, data: TrainingData
) -> PreTrainedTokenizerBase:
    return resolve_tokenizer(settings, sample_texts(data), hf_token=config.hf_token)


def _tokenizer(
    config: PretrainConfig,
    settings: ModelSettings,
    data: TrainingData,
    run_dir: Path,
    past: Checkpoint | Donor | None,
    launch: Launch,
) -> PreTrainedTokenizerBase:
    if isinstance(past, Checkpoint):
        return _stored_tokenizer(past)
    folder = run_dir / "tokenizer"
    if launch.is_first:
        tokenizer = _known_tokenizer(past) or _new_tokenizer(config, settings, data)
        save_tokenizer(tokenizer, folder)
    with shared_folder(folder, launch) as here:
        return load_tokenizer(here)


def _known_tokenizer(past: Checkpoint | Donor | None) -> PreTrainedTokenizerBase | None:
    """Of a run's past, where it has one: the embedding's rows mean its tokens."""
    if isinstance(past, Checkpoint):
        return _stored_tokenizer(past)
    return past.tokenizer() if past is not None else None


def _stored_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    with fetch_run_files(checkpoint.store) as folder:
        return load_tokenizer(folder / "tokenizer")


def _origin(checkpoint: Checkpoint | None) -> str | None:
    return None if checkpoint is None else checkpoint.state["resumed_from"]
