"""The DeepSpeed configuration of a run: built from a ZeRO stage, or a file with our keys added.

Batch sizes, optimizer, schedule, precision and clipping belong to the run's own settings; a file that
sets them otherwise is refused instead of being half obeyed. `train_batch_size` is never given:
DeepSpeed asserts micro x accumulation x world, and our ranks may own unequal numbers of rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from weave_data.errors import ConfigError
from weave_train.models.parts import Part

__all__ = [
    "EngineSettings",
    "OptimizerId",
    "deepspeed_config",
    "offloads",
    "read_deepspeed_file",
    "reduce_bucket_elements",
    "zero_section",
]

OptimizerId = Literal["adamw", "schedule_free_adamw"]
_MOST_BUCKET_ELEMENTS = 500_000_000  # DeepSpeed's own choice, whatever the model

_OURS = {
    "train_batch_size": "model.finetune_global_batch_size",
    "train_micro_batch_size_per_gpu": "model.finetune_per_device_batch_size",
    "gradient_accumulation_steps": "model.finetune_per_device_batch_size",
    "gradient_clipping": "model.finetune_max_grad_norm",
    "optimizer": "model.finetune_learning_rate and model.finetune_weight_decay",
    "scheduler": "model.finetune_lr_scheduler_type",
    "bf16": "model.enable_mixed_precision_training",
    "fp16": "model.enable_mixed_precision_training",
    "data_types": "model.enable_mixed_precision_training",
}


@dataclass(frozen=True)
class EngineSettings:
    """How the trained part is sharded and stepped.

    Attributes:
        zero_stage: 0 to 3.
        precision: Of compute.
        micro_batch_rows: Rows of a micro-step on one rank.
        micro_steps: Micro-steps of a full step.
        max_grad_norm: Gradients are clipped to this norm; 0 leaves them.
        weight_decay: Of parameters with two axes or more that are no bias.
        lr_scale: Factor of the learning rate by part of the model; 1 where a part is not named.
        parameter_lr_scale: Factor on top of that by parameter name; 1 where it is not named.
        optimizer: `adamw`, or AdamW without a schedule (`engine.schedule_free`).
        master_weights: Of weights and optimizer states; `bf16` (ZeRO 1 to 3, bf16 compute) has gradients
            accumulated in bf16, too, as VideoWeave did.
        reduce_in_full_precision: Gradients are summed over ranks in fp32; else in bf16, at half the
            traffic, where compute is bf16.
        extra: Other keys of a DeepSpeed file.
    """

    zero_stage: int
    precision: Literal["fp32", "bf16"]
    micro_batch_rows: int
    micro_steps: int
    max_grad_norm: float
    weight_decay: float
    lr_scale: Mapping[Part, float] = field(default_factory=dict)
    parameter_lr_scale: Mapping[str, float] = field(default_factory=dict)
    optimizer: OptimizerId = "adamw"
    master_weights: Literal["fp32", "bf16"] = "fp32"
    reduce_in_full_precision: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def zero_section(stage: int, *, offload: bool = False) -> dict[str, Any]:
    """`zero_optimization` of a stage; the files in `cluster_configs/deepspeed` hold the same.

    Args:
        stage: 0 to 3.
        offload: Of stage 3: weights and optimizer states lie in host memory, and AdamW runs there.
    """
    match stage:
        case 0:
            return {"stage": 0}
        case 1 | 2:
            return {"stage": stage, "overlap_comm": stage == 2, "contiguous_gradients": True}
        case _:
            section: dict[str, Any] = {
                "stage": 3,
                "overlap_comm": True,
                "contiguous_gradients": True,
                "stage3_max_live_parameters": 1_000_000_000,
                "stage3_max_reuse_distance": 1_000_000_000,
            }
            if offload:
                section |= {name: {"device": "cpu"} for name in ("offload_optimizer", "offload_param")}
            return section


def reduce_bucket_elements(trained_parameters: int) -> int:
    """Elements of the buffer in which a rank gathers gradients to reduce them; ZeRO 1 to 3 allocate it.

    DeepSpeed's default takes 2 GB in fp32 for the smallest model.
    """
    return max(1, min(trained_parameters, _MOST_BUCKET_ELEMENTS))


def offloads(settings: EngineSettings) -> bool:
    """Whether optimizer states lie in host memory."""
    section = settings.extra.get("zero_optimization", {})
    return section.get("offload_optimizer", {}).get("device", "none") != "none"


def deepspeed_config(settings: EngineSettings, *, trained_parameters: int) -> dict[str, Any]:
    """Everything `deepspeed.initialize` is given.

    Args:
        settings: Of the engine.
        trained_parameters: Elements of all of them together.
    """
    section = settings.extra.get("zero_optimization", zero_section(settings.zero_stage))
    if settings.zero_stage:
        section = {"reduce_bucket_size": reduce_bucket_elements(trained_parameters), **section}
    is_bf16 = settings.precision == "bf16"
    config: dict[str, Any] = {
        **settings.extra,
        "zero_optimization": section,
        "train_micro_batch_size_per_gpu": settings.micro_batch_rows,
        "gradient_accumulation_steps": settings.micro_steps,
        # unsharded gradients are clipped by the engine, which then knows their norm
        "gradient_clipping": settings.max_grad_norm if settings.zero_stage else 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its Adam needs a compiler; ours is torch's
        "communication_data_type": "fp32" if settings.reduce_in_full_precision or not is_bf16 else "bf16",
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
    if is_bf16:
        # its check is the one that `TrainEngine.step` tells of: stage 2 has none in bf16 without it
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
        config["data_types"] = {"grad_accum_dtype": settings.master_weights}
    if settings.master_weights == "bf16":
        config["bf16"] |= {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    return config


def read_deepspeed_file(path: Path) -> tuple[int, dict[str, Any]]:
    """ZeRO stage and the keys of a DeepSpeed JSON file; values `"auto"` are dropped: they are ours to choose.

    Raises:
        ConfigError: Not readable JSON, or it sets what the run's own settings decide.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"deepspeed: can't read {path}: {error}", origin="command line") from error
    if not isinstance(values, dict):
        raise ConfigError(f"deepspeed: {path} holds no JSON object", origin="command line")
    values = _without_auto(values)
    problems = [f"{key}: set it with --{flag}" for key, flag in _OURS.items() if key in values]
    section = values.get("zero_optimization", {})
    stage: Any = section.get("stage", 0) if isinstance(section, dict) else None
    if not isinstance(stage, int) or stage not in (0, 1, 2, 3):
        problems.append(f"zero_optimization.stage: {stage!r} is not one of 0, 1, 2, 3")
    if problems:
        raise ConfigError(problems, origin=str(path))
    return stage, values


def _without_auto(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value != "auto"
    }
