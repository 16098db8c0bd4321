"""Sections of a run's configuration. Names and defaults of `model` and `dataset` are VideoWeave's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from weave_data.config import StrictModel
from weave_train.config.model_settings import RopeScaling
from weave_train.config.presets import DEFAULT_MODEL_TYPE

__all__ = [
    "CheckpointConfig",
    "Count",
    "DatasetConfig",
    "FeedConfig",
    "LrScaleConfig",
    "MixtureEntry",
    "ModelConfig",
    "Rate",
    "Ratio",
    "ScheduleId",
    "StageConfig",
    "StageId",
    "Strategy",
    "WatchConfig",
]

Strategy = Literal["fsdp-shard-grad-op", "fsdp-full-shard"]
StageId = Literal["align", "finetune", "full-finetune"]
ScheduleId = Literal[
    "linear-warmup+cosine-decay", "linear-warmup+linear-decay", "constant", "schedule_free_adamw"
]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]


class StageConfig(StrictModel):
    """Hyper-parameters of one training stage (`align_*` or `finetune_*` of the model)."""

    epochs: Count
    max_steps: Count | None
    global_batch_size: Count
    per_device_batch_size: Count
    learning_rate: Rate
    weight_decay: Rate
    max_grad_norm: Rate
    lr_scheduler_type: ScheduleId
    warmup_ratio: Ratio
    train_strategy: Strategy


class ModelConfig(StrictModel):
    """One model and how it is trained; names and defaults are VideoWeave's.

    `ckpt_interval` is `save_every_steps` by the paper's name. `enable_mixed_precision_training`: compute in
    bf16 (masters: `master_weights`), else all in fp32. `reduce_in_full_precision`: sum gradients over ranks
    in fp32; false, VideoWeave's default, sums them in bf16, at half the traffic. `llm_weights`: `pretrained`,
    `random` or a local copy of a named model. `rope_scaling_factor`: a language model takes that many times
    the tokens it has positions for. `attention`: null is SDPA where the language model has it.
    `prompt_format`: `legacy`, VideoWeave's strings, or `native`, the model's own chat format.
    `visual_placement`: all frames after BOS, in place of `<image>`, or a block for each clip.
    """

    type: str = DEFAULT_MODEL_TYPE
    model_id: str
    arch_specifier: str = "gelu-mlp"
    vision_backbone_id: str = "clip-vit-l-336px"
    vision_weights: str = "pretrained"
    llm_backbone_id: str = "vicuna-v15-7b"
    image_resize_strategy: Literal["letterbox", "resize-crop", "resize-naive"] = "letterbox"
    llm_max_length: Count = 2048
    prompt_format: Literal["legacy", "native"] = "legacy"
    visual_placement: Literal["after-bos", "in-place", "per-clip"] = "after-bos"

    align_epochs: Count = 1
    align_max_steps: Count | None = None
    align_global_batch_size: Count = 256
    align_per_device_batch_size: Count = 16
    align_learning_rate: Rate = 1e-3
    align_weight_decay: Rate = 0.0
    align_max_grad_norm: Rate = 1.0
    align_lr_scheduler_type: ScheduleId = "linear-warmup+cosine-decay"
    align_warmup_ratio: Ratio = 0.03
    align_train_strategy: Strategy = "fsdp-shard-grad-op"

    finetune_epochs: Count = 1
    finetune_max_steps: Count | None = None
    finetune_global_batch_size: Count = 128
    finetune_per_device_batch_size: Count = 16
    finetune_learning_rate: Rate = 2e-5
    finetune_weight_decay: Rate = 0.1
    finetune_max_grad_norm: Rate = 1.0
    finetune_lr_scheduler_type: ScheduleId = "linear-warmup+cosine-decay"
    finetune_warmup_ratio: Ratio = 0.03
    finetune_train_strategy: Strategy = "fsdp-full-shard"

    llm_weights: str = "pretrained"
    rope_scaling_factor: Annotated[float, Field(ge=1.0)] | None = None
    rope_scaling_type: RopeScaling = "dynamic"
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    enable_gradient_checkpointing: bool = True
    enable_mixed_precision_training: bool = True
    reduce_in_full_precision: bool = True
    num_frames: Count = 8
    init_from_model: str | None = None
    repo_id: str | None = None
    ckpt_interval: Count | None = None


class MixtureEntry(StrictModel):
    """One data set of a mixture: `slots` rows of every global batch are its own.

    `manifest` is the URI of a woven recipe's manifest.json; `type` names a JSON list instead.
    """

    name: str
    slots: Count
    manifest: str | None = None
    split: str = "train"
    type: str | None = None


class DatasetConfig(StrictModel):
    """What is read.

    `manifest`: a woven recipe. `mixture`: several data sets, whose `slots` add up to the global batch.
    `type` and the `*_components`, (JSON file, media directory) below `dataset_root_dir`, name VideoWeave's
    JSON lists, which are read as they are. `dataset_root_dir` null: `WEAVE_DATA_ROOT` of the environment, or
    `data`. `frame_policy` says which frames of a row's `videos` are decoded; `random-sorted` draws anew each
    epoch. `token_index`: where `weave-train index --to` wrote; null: beside the manifests. `shuffle_frames`
    puts the frames of all clips of a sample in one order drawn from the seed and the sample id, the same in
    every epoch; validation rows, too.
    """

    manifest: str | None = None
    split: str = "train"
    mixture: list[MixtureEntry] | None = None
    type: str | None = None
    dataset_id: str | None = None
    align_stage_components: list[str] | None = None
    finetune_stage_components: list[str] | None = None
    dataset_root_dir: str | None = None
    frame_policy: Literal["linspace", "segment-center", "random-sorted"] = "random-sorted"
    token_index: str | None = None
    shuffle_frames: bool = False


class FeedConfig(StrictModel):
    """How rows are read.

    `read_timeout_s`: one row group, all attempts. `stall_timeout_s`: rows of one step; below the
    collectives' own time-out, so that a stall is an error with a name. `cache_dir`: row groups are kept
    there, at most `cache_gib`. `max_memory_mib`: row groups read ahead or in use, on one rank.
    `allow_upscaling`: train on frames stored smaller than the tower's input.
    """

    read_timeout_s: Seconds = 120.0
    stall_timeout_s: Seconds = 600.0
    cache_dir: str | None = None
    cache_gib: Annotated[float, Field(gt=0.0)] = 50.0
    max_memory_mib: Count = 4096
    allow_upscaling: bool = False


class CheckpointConfig(StrictModel):
    """How a run is saved.

    `uri`: where, local or `s3://`; null is the run directory. `keep_last` newest complete checkpoints are
    kept (null: all), and those of every `keep_every_steps` beside them. `is_async`: training goes on
    while a checkpoint is written.
    """

    uri: str | None = None
    keep_last: Count | None = None
    keep_every_steps: Count | None = None
    is_async: bool = True


class WatchConfig(StrictModel):
    """What ends a run that can't go on.

    `step_timeout_s`: a stage of a step that takes longer (its rows, its passes, a save, a batch of
    validation) is a hang: stacks are dumped and the ranks end with 70. `load_timeout_s`: the same for a
    stage before the first step (data, model, checkpoint); None: five sixths of `collective_timeout_s`,
    which is the process group's. `nonfinite`: `stop`, or `skip` a step whose loss or gradients are not
    finite, at most `max_skipped_steps` in a run.
    """

    step_timeout_s: Seconds = 1800.0
    load_timeout_s: Seconds | None = None
    collective_timeout_s: Seconds = 3600.0
    nonfinite: Literal["stop", "skip"] = "stop"
    max_skipped_steps: Count = 20

    @property
    def resolved_load_timeout_s(self) -> float:
        """`load_timeout_s`, or what it is unless set."""
        return self.load_timeout_s or self.collective_timeout_s * 5 / 6


class LrScaleConfig(StrictModel):
    """Factors of the learning rate by module; 0 is not freezing (weight decay goes with the rate, too)."""

    projector: Rate = 1.0
    language: Rate = 1.0
    vision: Rate = 1.0
