"""What `weave-train pretrain` accepts: VideoWeave's flags, and ours beside them.

Values come from a model preset, then the flags, through the loader that reads build configurations:
strict types, all problems at once. A flag that would change nothing yet is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from weave_data.config import StrictModel, load_config
from weave_data.errors import ConfigError
from weave_train.presets import DATASET_IDS, DEFAULT_MODEL_TYPE, model_preset, nearest
from weave_train.schedule import ScheduleId

__all__ = ["DatasetConfig", "ModelConfig", "PretrainConfig", "StageConfig", "load_pretrain_config"]


Strategy = Literal["fsdp-shard-grad-op", "fsdp-full-shard"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]

_STRATEGY_STAGE = {"fsdp-shard-grad-op": 2, "fsdp-full-shard": 3}


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
    """One model and how it is trained; names and defaults are VideoWeave's."""

    type: str = DEFAULT_MODEL_TYPE
    model_id: str
    arch_specifier: str = "gelu-mlp"
    vision_backbone_id: str = "clip-vit-l-336px"
    vision_weights: str = "pretrained"
    llm_backbone_id: str = "vicuna-v15-7b"
    image_resize_strategy: Literal["letterbox", "resize-crop", "resize-naive"] = "letterbox"
    llm_max_length: Count = 2048

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

    rope_scaling_factor: Rate | None = None
    enable_gradient_checkpointing: bool = True
    enable_mixed_precision_training: bool = True
    reduce_in_full_precision: bool = False
    num_frames: Count = 8
    init_from_model: str | None = None
    repo_id: str | None = None


class DatasetConfig(StrictModel):
    """What is read: `manifest` of a woven data set. The other fields name VideoWeave's JSON lists."""

    manifest: str | None = None
    split: str = "train"
    type: str | None = None
    dataset_id: str | None = None
    align_stage_components: list[str] | None = None
    finetune_stage_components: list[str] | None = None
    dataset_root_dir: str | None = None


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PretrainConfig(StrictModel):
    """Everything `weave-train pretrain` needs.

    `zero_stage` null follows the stage's `train_strategy` (`fsdp-shard-grad-op` is ZeRO-2,
    `fsdp-full-shard` ZeRO-3). `resume: auto` continues the newest complete checkpoint of the run
    directory, `never` refuses a run directory that has one, a path is a step directory.
    `save_every_steps` null saves at the end of each epoch, or of the run when `max_steps` is set.
    `stop_after_steps` stops as if interrupted, with a checkpoint, after that many steps of this
    process; `window_groups` row groups of a lane are shuffled together.
    """

    model: ModelConfig
    dataset: DatasetConfig = DatasetConfig()
    val_dataset: DatasetConfig = DatasetConfig()
    stage: Literal["align", "finetune", "full-finetune"] = "finetune"
    pretrained_checkpoint: str | None = None
    run_id: str | None = None
    run_root_dir: str = "runs"
    seed: Annotated[int, Field(ge=0)] = 7
    dry_run: bool = False
    hf_token: str = ".hf_token"  # noqa: S105  name of a file
    trackers: Annotated[list[Literal["jsonl", "wandb"]], BeforeValidator(_one_or_more)] = Field(
        default=["jsonl"]
    )
    wandb_project: str = "prismatic"
    wandb_entity: str | None = None

    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    deepspeed: str | None = None
    max_steps: Count | None = None
    resume: str = "auto"
    stop_after_steps: Count | None = None
    save_every_steps: Count | None = None
    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    prefetch_steps: Count = 2
    window_groups: Count = 4

    @property
    def hyper(self) -> StageConfig:
        """Hyper-parameters of the stage that runs, `--max_steps` applied."""
        prefix = "align_" if self.stage == "align" else "finetune_"
        values = {name: getattr(self.model, prefix + name) for name in StageConfig.model_fields}
        if self.max_steps is not None:
            values["max_steps"] = self.max_steps
        return StageConfig(**values)

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Precision of compute; master weights and optimizer states are always fp32."""
        return "bf16" if self.model.enable_mixed_precision_training else "fp32"

    @property
    def resolved_zero_stage(self) -> int:
        """ZeRO stage when no DeepSpeed file is given."""
        return self.zero_stage if self.zero_stage is not None else _STRATEGY_STAGE[self.hyper.train_strategy]

    def resolved_run_id(self, recipe: str) -> str:
        """`--run_id`, or VideoWeave's `{dataset}+{model}+stage-{stage}+x{seed}`.

        Args:
            recipe: Name of the woven recipe, the data set's id unless one is given.
        """
        if self.run_id is not None:
            return self.run_id
        dataset_id = self.dataset.dataset_id or self.dataset.type or recipe
        name = f"{self.model.model_id}+stage-{self.stage}+x{self.seed}"
        return name if dataset_id == "llava-v15" else f"{dataset_id}+{name}"


_NO_JSON_LISTS = "JSON lists are not read yet; weave them into shards and give --dataset.manifest URI"
_NO_EFFECT = {
    "val_dataset": "has no effect yet: no validation pass",
    "dataset.align_stage_components": _NO_JSON_LISTS,
    "dataset.finetune_stage_components": _NO_JSON_LISTS,
    "dataset.dataset_root_dir": _NO_JSON_LISTS,
    "pretrained_checkpoint": "has no effect yet: no warm start from an aligned projector",
    "dry_run": "has no effect yet",
    "hf_token": "has no effect yet: no backbone is fetched from a hub",
    "wandb_project": "has no effect yet: the wandb tracker is not there",
    "wandb_entity": "has no effect yet: the wandb tracker is not there",
    "model.rope_scaling_factor": "has no effect yet",
    "model.init_from_model": "has no effect yet: no warm start",
    "model.repo_id": "has no effect yet: no warm start",
}


def load_pretrain_config(
    overrides: Sequence[tuple[str, Any]],
    *,
    values: Mapping[str, Any] | None = None,
    origin: str = "command line",
) -> PretrainConfig:
    """Preset, then a file's values, then overrides; then refuse what can't be honoured.

    Args:
        overrides: `(dotted.path, value)` pairs, applied in order.
        values: Parsed settings of a configuration file.
        origin: Named in messages.

    Raises:
        ConfigError: All problems, each with its dotted path.
    """
    given = dict(values or {})
    section = given.get("model")
    model_values = dict(section) if isinstance(section, Mapping) else {}
    model_type = dict(overrides).get("model.type", model_values.get("type", DEFAULT_MODEL_TYPE))
    preset = {"type": model_type, **model_preset(str(model_type))}
    config = load_config(
        PretrainConfig, {**given, "model": {**preset, **model_values}}, overrides=overrides, origin=origin
    )
    problems = _problems(config, PretrainConfig(model=ModelConfig(**preset)))
    if problems:
        raise ConfigError(problems, origin=origin)
    return config


def _problems(config: PretrainConfig, baseline: PretrainConfig) -> list[str]:
    found = [
        f"{path}: {reason}"
        for path, reason in _NO_EFFECT.items()
        if _value_at(config, path) != _value_at(baseline, path)
    ]
    if config.stage != "align":
        found += [
            f"model.{name}: has no effect in stage {config.stage}"
            for name in ModelConfig.model_fields
            if name.startswith("align_") and getattr(config.model, name) != getattr(baseline.model, name)
        ]
    found += _dataset_problems(config.dataset)
    found += _stage_problems(config)
    return found + _engine_problems(config)


def _dataset_problems(dataset: DatasetConfig) -> list[str]:
    found = []
    if dataset.type is not None and dataset.type not in DATASET_IDS:
        found.append(
            f"dataset.type: {dataset.type!r} is not a known data set ({nearest(dataset.type, DATASET_IDS)})"
        )
    elif dataset.type is not None and dataset.manifest is None:
        found.append(f"dataset.type: {dataset.type!r}: {_NO_JSON_LISTS}")
    elif dataset.manifest is None:
        found.append("dataset.manifest: required: URI of a woven data set's manifest.json")
    return found


def _stage_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.stage != "finetune":
        found.append(f"stage: {config.stage!r} has no effect yet; only finetune trains (projector and LLM)")
    elif not config.model.arch_specifier.startswith("no-align"):
        found.append(
            f"model.arch_specifier: {config.model.arch_specifier!r} starts from an aligned projector, which "
            f"can't be given yet; train in one stage with no-align+{config.model.arch_specifier}"
        )
    if "wandb" in config.trackers:
        found.append("trackers: wandb has no effect yet; use --trackers jsonl")
    steps = getattr(config.model, "finetune_max_steps", None)
    if config.max_steps is not None and steps is not None and steps != config.max_steps:
        found.append(
            f"max_steps: {config.max_steps} contradicts model.finetune_max_steps {steps}; give one of them"
        )
    return found


def _engine_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.deepspeed is not None and config.zero_stage is not None:
        found.append("deepspeed: a file and --zero_stage are both given; give one of them")
    if config.deepspeed is None and config.resolved_zero_stage == 0 and config.precision == "bf16":
        found.append(
            "zero_stage: 0 trains in fp32 only; add --model.enable_mixed_precision_training false "
            "or choose stage 1, 2 or 3"
        )
    return found


def _value_at(config: Any, path: str) -> Any:
    for step in path.split("."):
        config = getattr(config, step)
    return config
