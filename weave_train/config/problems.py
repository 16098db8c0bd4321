"""Settings that contradict each other, or that nothing honours: refused, all of them at once."""

from __future__ import annotations

from pathlib import Path

from weave_train.config.dataset_problems import dataset_problems
from weave_train.config.pretrain import PretrainConfig
from weave_train.config.sections import WatchConfig
from weave_train.config.tracking_problems import tracking_problems
from weave_train.config.trainable import LoraConfig

__all__ = ["NEVER_RESTARTS", "find_problems"]

NEVER_RESTARTS = (
    "resume: never, but max_restarts starts a run again from its own checkpoint; give one of them"
)


def find_problems(config: PretrainConfig, baseline: PretrainConfig) -> list[str]:
    """Everything wrong with a configuration, a line each.

    Args:
        config: As given.
        baseline: Of the same preset with nothing else given: what differs was asked for.
    """
    found = _language_problems(config, baseline)
    found += dataset_problems(config.dataset, batch_rows=config.hyper.global_batch_size)
    found += tracking_problems(config)
    found += (
        _stage_problems(config, baseline)
        + _start_problems(config)
        + _frame_problems(config)
        + _lora_problems(config)
    )
    return found + _engine_problems(config)


def _language_problems(config: PretrainConfig, baseline: PretrainConfig) -> list[str]:
    found = []
    model = config.model
    if model.rope_scaling_factor is None and model.rope_scaling_type != baseline.model.rope_scaling_type:
        found.append("model.rope_scaling_type: has no effect without model.rope_scaling_factor; give both")
    if model.attention == "flash_attention_2" and config.precision == "fp32":
        found.append(
            "model.attention: flash_attention_2 computes in bf16 only; add "
            "--model.enable_mixed_precision_training true or take sdpa"
        )
    if config.hf_token.startswith("hf_") and not Path(config.hf_token).exists():
        found.append(
            "hf_token: looks like a token itself, which would be kept with the run; name a file or an "
            "environment variable that holds it"
        )
    return found


def _stage_problems(config: PretrainConfig, baseline: PretrainConfig) -> list[str]:
    found = []
    is_one_stage = config.model.arch_specifier.startswith("no-align")
    if config.stage == "align" and is_one_stage:
        found.append(
            f"stage: align trains a projector for a later stage, but {config.model.arch_specifier!r} starts "
            f"from none; add --model.arch_specifier {config.model.arch_specifier.removeprefix('no-align+')}"
        )
    if config.pretrained_checkpoint is not None and (config.stage == "align" or is_one_stage):
        found.append(
            f"pretrained_checkpoint: an aligned projector has no effect in stage {config.stage} of "
            f"{config.model.arch_specifier!r}; leave it out, or give --model.init_from_model"
        )
    if config.pretrained_checkpoint is not None and config.model.init_from_model is not None:
        found.append("pretrained_checkpoint: contradicts model.init_from_model; give one of them")
    if config.model.repo_id is not None and config.model.init_from_model is None:
        found.append("model.repo_id: has no effect without model.init_from_model")
    steps = config.model.finetune_max_steps
    is_asked_for = steps != baseline.model.finetune_max_steps
    if config.max_steps is not None and steps is not None and is_asked_for and steps != config.max_steps:
        found.append(
            f"max_steps: {config.max_steps} contradicts model.finetune_max_steps {steps}; give one of them"
        )
    if config.save_every_steps is not None and config.model.ckpt_interval is not None:
        found.append("save_every_steps: model.ckpt_interval says the same; give one of them")
    return found


def _start_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.launcher == "ray" and config.num_ranks is None:
        found.append("num_ranks: required with --launcher ray: how many workers Ray Train starts")
    if config.launcher == "ray" and config.dry_run:
        found.append("dry_run: workers of Ray Train only train; leave --launcher ray out")
    if config.max_restarts and config.resume == "never":
        found.append(NEVER_RESTARTS)
    if config.max_restarts and config.launcher != "ray":
        found.append("max_restarts: only --launcher ray and weave-train launch start ranks anew")
    return found


def _frame_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.dataset.shuffle_frames and config.model.visual_placement == "per-clip":
        found.append(
            "dataset.shuffle_frames: shuffled frames are no clips; --model.visual_placement in-place"
        )
    if config.val_dataset.shuffle_frames:
        found.append("val_dataset.shuffle_frames: follows --dataset.shuffle_frames; leave it out")
    return found


def _lora_problems(config: PretrainConfig) -> list[str]:
    if config.lora.rank is None:
        default = LoraConfig()
        return [
            f"lora.{name}: has no effect without --lora.rank"
            for name in ("alpha", "dropout", "targets")
            if getattr(config.lora, name) != getattr(default, name)
        ]
    if config.stage == "align":
        return ["lora.rank: stage align trains the projector alone; leave it out, or give --stage finetune"]
    return []


def _engine_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.deepspeed is not None and config.zero_stage is not None:
        found.append("deepspeed: a file and --zero_stage are both given; give one of them")
    if config.deepspeed is None and config.resolved_zero_stage == 0 and config.precision == "bf16":
        found.append(
            "zero_stage: 0 trains in fp32 only; add --model.enable_mixed_precision_training false "
            "or choose stage 1, 2 or 3"
        )
    return found + _precision_problems(config)


def _precision_problems(config: PretrainConfig) -> list[str]:
    found = []
    if config.precision == "fp32" and not config.model.reduce_in_full_precision:
        found.append(
            "model.reduce_in_full_precision: false has no effect where all is fp32; leave it out, or add "
            "--model.enable_mixed_precision_training true"
        )
    if config.master_weights == "bf16" and config.precision == "fp32":
        found.append(
            "master_weights: bf16 is for compute in bf16; add --model.enable_mixed_precision_training true"
        )
    if config.master_weights == "bf16" and config.hyper.lr_scheduler_type == "schedule_free_adamw":
        found.append(
            "master_weights: bf16 rounds the small changes away that schedule_free_adamw averages; use fp32"
        )
    of_collective = config.watch.collective_timeout_s
    limits = {"step": config.watch.step_timeout_s, "load": config.watch.resolved_load_timeout_s}
    for stage, limit in limits.items():
        if of_collective <= limit:
            found.append(
                f"watch.collective_timeout_s: {of_collective:g} must be above watch.{stage}_timeout_s, "
                f"{limit:g}: a hang would end in a collective that names nobody; lower the other one, too"
            )
    if config.watch.nonfinite == "stop" and config.watch.max_skipped_steps != WatchConfig().max_skipped_steps:
        found.append("watch.max_skipped_steps: has no effect without --watch.nonfinite skip")
    return found
