"""`weave-train estimate`: what a run will take, before any weight is loaded or GPU is held.

    configuration -> model without weights -> states, activations of the heaviest micro-batch -> memory
    token lengths (index, or a sample)     -> tokens, FLOPs, steps -> hours at a share of a GPU's peak

Model states are those of DeepSpeed (`engine.model_states`); activations are counted
(`numbers.activations`); FLOPs are MFU's (`numbers.flops`). The share of the peak is yours to say: 30 % is
what is published for video-language models (25 to 35 %), not a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from weave_data.errors import ConfigError
from weave_train.checkpoint.frozen import frozen_values
from weave_train.config import PretrainConfig
from weave_train.engine.model_states import model_states
from weave_train.engine.stages import apply_stage, trains_tower
from weave_train.feed import TokenSummary, heaviest_row, summarize
from weave_train.languages import round_up
from weave_train.launch import Launch
from weave_train.loading import model_parts
from weave_train.models.language import LanguageOptions, language_config
from weave_train.models.lora import add_lora
from weave_train.models.model import assemble_model
from weave_train.numbers import FlopsModel, flops_model
from weave_train.numbers.activations import MicroBatchShape, activations
from weave_train.numbers.peaks import PEAKS, peak_flops
from weave_train.train.data import TrainingData, open_data
from weave_train.train.estimate_report import Estimate, Speed
from weave_train.train.prepare import engine_settings
from weave_train.train.run_directory import model_settings
from weave_train.train.token_lengths import SetLengths, planned_tokenizer, set_lengths

__all__ = ["estimate"]

_STATES_PER_WEIGHT = 3  # a checkpoint holds master and two states


def estimate(config: PretrainConfig, speed: Speed) -> Estimate:
    """Work out what a run takes; of data sets texts are read, of models configurations.

    Args:
        config: Of the run; `num_ranks` is the world size.
        speed: What hours are worked out from.

    Raises:
        ConfigError: The configuration does not fit itself, or the device is not known.
        SourceError: Data sets or configurations can't be read.
    """
    launch = Launch(0, config.num_ranks or 1, 0, torch.device("cpu"))
    peak = _peak(config, speed)
    data = open_data(config, world_size=launch.world_size)
    settings = model_settings(config, data.configuration)
    tokenizer = planned_tokenizer(config, data, settings)
    lengths = [
        set_lengths(source, tokenizer=tokenizer, settings=settings, to=config.dataset.token_index)
        for source in data.sources
    ]
    random = settings.model_copy(update={"llm_weights": "random", "vision_weights": "random"})
    options = LanguageOptions(attention=config.model.attention, hf_token=config.hf_token)
    trains_vision = trains_tower(config.stage, config.trainable)
    shape_of = language_config(random, tokenizer, options)
    shape_of.vocab_size = max(shape_of.vocab_size, round_up(len(tokenizer)))
    with torch.device("meta"):
        vlm = assemble_model(
            random,
            tokenizer,
            language_config=shape_of,
            trains_vision=trains_vision,
            language_options=options,
        )
        if settings.lora is not None:
            add_lora(vlm.core, settings.lora, seed=settings.seed)
    apply_stage(vlm, config.stage, config.trainable)
    for_engine = engine_settings(config, launch)
    recompute = config.model.enable_gradient_checkpointing
    work = flops_model(vlm, recompute=recompute)
    num_steps = config.hyper.max_steps or data.order.num_steps(config.hyper.epochs)
    tokens, flops = _work(data, lengths, work, num_steps=num_steps)
    trained = sum(value.numel() for value in vlm.core.parameters() if value.requires_grad)
    states = model_states(vlm.core, for_engine, world_size=launch.world_size)
    tower_bytes = 0 if trains_vision else sum(value.nbytes for value in vlm.tower.parameters())
    frozen_bytes = sum(
        value.nbytes for part in model_parts(vlm).values() for value in frozen_values(part).values()
    )
    shape = _heaviest(lengths, rows=for_engine.micro_batch_rows)
    if speed.tokens_per_second is not None:
        seconds: float | None = tokens / speed.tokens_per_second
    else:
        seconds = None if peak is None else flops / (peak * speed.mfu * launch.world_size)
    master = 2 if for_engine.master_weights == "bf16" else 4
    return Estimate(
        world_size=launch.world_size,
        trained=trained,
        tower_bytes=tower_bytes,
        loaded_bytes=4 * sum(value.numel() for value in vlm.core.parameters()) + tower_bytes,
        states=states,
        shape=shape,
        kept=activations(vlm, shape, recompute=recompute),
        is_indexed=all(each.is_whole for each in lengths),
        rows=sum(each.table.num_rows for each in lengths),
        num_steps=num_steps,
        tokens=tokens,
        flops=flops,
        seconds=seconds,
        speed=speed,
        checkpoint_bytes=trained * master * _STATES_PER_WEIGHT,
        snapshot_bytes=-(-trained * master * _STATES_PER_WEIGHT // launch.world_size),
        frozen_bytes=frozen_bytes,
        num_checkpoints=_num_checkpoints(config, data, num_steps=num_steps),
    )


def _peak(config: PretrainConfig, speed: Speed) -> float | None:
    if not 0 < speed.mfu <= 1:
        raise ConfigError(f"mfu: {speed.mfu} is not a share of the peak; give one above 0, at most 1")
    if speed.gpu is None:
        return None
    peak = peak_flops(speed.gpu, precision=config.precision)
    if math.isnan(peak):
        known = ", ".join(" ".join(each.words) for each in PEAKS)
        raise ConfigError(f"gpu: {speed.gpu!r} is not known; give one of {known}, or --tokens_per_second")
    return peak


def _work(
    data: TrainingData, lengths: Sequence[SetLengths], work: FlopsModel, *, num_steps: int
) -> tuple[float, float]:
    """Tokens and model FLOPs of a run: means of each data set's rows, as many as its slots read."""
    tokens = flops = 0.0
    for slots, source, each in zip(data.slots, data.sources, lengths, strict=True):
        summary = summarize(each.table)
        rows = float(num_steps * slots)
        if len(data.sources) == 1:
            epochs, steps = divmod(num_steps, data.order.num_steps(1))
            epoch_rows = sum(sum(shards) for shards in source.shard_rows) / len(source.shard_rows)
            # the last batch of an epoch is short
            rows = epochs * epoch_rows + min(steps * slots, epoch_rows)
        tokens += rows * summary.tokens / summary.rows
        flops += rows * _row_flops(each, summary, work)
    return tokens, flops


def _row_flops(each: SetLengths, summary: TokenSummary, work: FlopsModel) -> float:
    lengths = each.table["kept_tokens"].to_pylist()
    whole = work.of_rows(lengths, num_frames=summary.frames, num_supervised=summary.supervised_tokens)
    return whole / summary.rows


def _heaviest(lengths: Sequence[SetLengths], *, rows: int) -> MicroBatchShape:
    """A micro-batch of nothing but the heaviest row.

    Raises:
        ConfigError: A row does not fit.
    """
    lines = [each.table.slice(heaviest_row(each.table), 1).to_pylist()[0] for each in lengths]
    refused = next((line for line in lines if not line["kept_tokens"]), None)
    if refused is not None:
        raise ConfigError(
            f"model.llm_max_length: rows do not fit, the first has {refused['tokens']} tokens; weave-train "
            "index says how many, --dry_run names one"
        )
    line = max(lines, key=lambda each: (each["kept_tokens"], each["num_frames"]))
    return MicroBatchShape(
        rows=rows,
        tokens=line["kept_tokens"],
        frames=rows * line["num_frames"],
        supervised=rows * line["supervised_tokens"],
    )


def _num_checkpoints(config: PretrainConfig, data: TrainingData, *, num_steps: int) -> int:
    every = config.save_every or (num_steps if config.hyper.max_steps else data.order.num_steps(1))
    saved = math.ceil(num_steps / every)
    keep, marked = config.checkpoint.keep_last, config.checkpoint.keep_every_steps
    if keep is None:
        return saved
    return min(saved, keep + (num_steps // marked if marked else 0))
