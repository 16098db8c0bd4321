"""Model ids: VideoWeave's sixty-four, the three it defines without registering, and ours.

A preset is only what differs from the defaults of `sections.ModelConfig`, which are those of VideoWeave's
base, `reproduction-llava-v15+7b`. `full-ft-*` are trained with `--stage full-finetune`, the others of one
stage with `--stage finetune`, those without `no-align+` with `--stage align` first.

Source:
    VideoWeave, `prismatic/conf/models.py`. Differs: an id means what its name says. There, four of Gemma's
    six ids (`siglip`, `dinosiglip`) are Vicuna on CLIP, and SigLIP's Prisms of 13b stand on CLIP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "MODEL_PRESETS",
    "OWN_PRESETS",
    "UNREGISTERED_PRESETS",
    "VIDEOWEAVE_PRESETS",
    "WOVEN_CLIPS",
    "on_each_tower",
]

Preset = Mapping[str, Any]

WOVEN_CLIPS = (1, 2, 4, 8, 16)
"""L of the paper's runs, each `videoweave-l<L>`."""

_TOWERS = {"clip": "clip-vit-l-336px", "siglip": "siglip-vit-so400m-384px"}
_FUSED_TOWERS = {"dinoclip": "dinoclip-vit-l-336px", "dinosiglip": "dinosiglip-vit-so-384px"}
_LLAMA2 = {"7b": "llama2-7b-pure", "13b": "llama2-13b-pure"}
_VICUNA_13B = {"llm_backbone_id": "vicuna-v15-13b"}
_ONE_STAGE = {"arch_specifier": "no-align+gelu-mlp"}
_ONE_STAGE_FUSED = {"arch_specifier": "no-align+fused-gelu-mlp"}
_NAIVE = {"image_resize_strategy": "resize-naive"}
_CROP = {"image_resize_strategy": "resize-crop"}


def _tower(vision_backbone_id: str) -> Preset:
    return {"vision_backbone_id": vision_backbone_id}


def _language(llm_backbone_id: str) -> Preset:
    return {**_ONE_STAGE, "llm_backbone_id": llm_backbone_id}


def on_each_tower(name: str, llm_backbone_id: str) -> dict[str, Preset]:
    """A language model on CLIP (the base's), SigLIP and both: `name+clip`, ..."""
    language = _language(llm_backbone_id)
    return {
        f"{name}+clip": language,
        f"{name}+dinosiglip": {**language, **_tower(_FUSED_TOWERS["dinosiglip"])},
        f"{name}+siglip": {**language, **_tower(_TOWERS["siglip"])},
    }


def _prism(size: str, arch: Preset, tower: Preset, *, is_controlled: bool) -> Preset:
    """Llama 2 on naively resized images; for two epochs, unless it is to be compared with the others."""
    epochs = {} if is_controlled else {"finetune_epochs": 2}
    return {**arch, **tower, **_NAIVE, "llm_backbone_id": _LLAMA2[size], **epochs}


def _prisms(name: str, sizes: tuple[str, ...], arch: Preset, tower: Preset) -> dict[str, Preset]:
    return {
        f"prism-{name}{'-controlled' if is_controlled else ''}+{size}": _prism(
            size, arch, tower, is_controlled=is_controlled
        )
        for is_controlled in (True, False)
        for size in sizes
    }


_OPTIMIZATION: dict[str, Preset] = {
    "reproduction-llava-v15+7b": {},
    "reproduction-llava-v15+13b": _VICUNA_13B,
    "one-stage+7b": _ONE_STAGE,
    "one-stage+13b": {**_ONE_STAGE, **_VICUNA_13B},
    "full-ft-multi-stage+7b": {},
    "full-ft-one-stage+7b": _ONE_STAGE,
}

_VISION: dict[str, Preset] = {
    "in1k-224px+7b": {**_ONE_STAGE, **_tower("in1k-vit-l")},
    "dinov2-224px+7b": {**_ONE_STAGE, **_tower("dinov2-vit-l")},
    "clip-224px+7b": {**_ONE_STAGE, **_tower("clip-vit-l")},
    "siglip-224px+7b": {**_ONE_STAGE, **_tower("siglip-vit-so400m")},
    "clip-336px-resize-crop+7b": {**_ONE_STAGE, **_CROP},
    "clip-336px-resize-naive+7b": {**_ONE_STAGE, **_NAIVE},
    "siglip-384px-letterbox+7b": {**_ONE_STAGE, **_tower(_TOWERS["siglip"])},
    "siglip-384px-resize-crop+7b": {**_ONE_STAGE, **_tower(_TOWERS["siglip"]), **_CROP},
    "siglip-384px-resize-naive+7b": {**_ONE_STAGE, **_tower(_TOWERS["siglip"]), **_NAIVE},
    "dinoclip-336px-letterbox+7b": {**_ONE_STAGE_FUSED, **_tower(_FUSED_TOWERS["dinoclip"])},
    "dinoclip-336px-resize-naive+7b": {**_ONE_STAGE_FUSED, **_tower(_FUSED_TOWERS["dinoclip"]), **_NAIVE},
    "dinosiglip-384px-letterbox+7b": {**_ONE_STAGE_FUSED, **_tower(_FUSED_TOWERS["dinosiglip"])},
    "dinosiglip-384px-resize-naive+7b": {
        **_ONE_STAGE_FUSED, **_tower(_FUSED_TOWERS["dinosiglip"]), **_NAIVE,
    },
}  # fmt: skip

_LANGUAGE: dict[str, Preset] = {
    "llama2+7b": _language("llama2-7b-pure"),
    "llama2+13b": _language("llama2-13b-pure"),
    "llama2-chat+7b": _language("llama2-7b-chat"),
    "llama2-chat+13b": _language("llama2-13b-chat"),
    **on_each_tower("llama3-instruct+8b", "llama3-8b-instruct"),
    **on_each_tower("gemma-instruct+2b", "gemma-2b-instruct"),
    **on_each_tower("gemma-instruct+8b", "gemma-8b-instruct"),
    "mistral-v0.1+7b": _language("mistral-v0.1-7b-pure"),
    "mistral-instruct-v0.1+7b": _language("mistral-v0.1-7b-instruct"),
    **on_each_tower("mistral-instruct-v0.2+7b", "mistral-v0.2-7b-instruct"),
    "phi-2+3b": _language("phi-2-3b"),
    **on_each_tower("phi-3-instruct+4b", "phi-3-instruct-4b"),
}

_DATA_AND_TIME: dict[str, Preset] = {
    "vicuna-no-cotraining+7b": _ONE_STAGE,
    "llama2-no-cotraining+7b": _language("llama2-7b-pure"),
    "train-1.25-epochs+7b": {**_ONE_STAGE, "finetune_max_steps": 6500},
    "train-1.5-epochs+7b": {**_ONE_STAGE, "finetune_max_steps": 7800},
    "train-2-epochs+7b": {**_ONE_STAGE, "finetune_epochs": 2},
    "train-3-epochs+7b": {**_ONE_STAGE, "finetune_epochs": 3},
    "llava-lvis4v+7b": _ONE_STAGE,
    "llava-lrv+7b": _ONE_STAGE,
    "llava-lvis4v-lrv+7b": _ONE_STAGE,
}

VIDEOWEAVE_PRESETS: Mapping[str, Preset] = {
    **_OPTIMIZATION,
    **_VISION,
    **_LANGUAGE,
    **_DATA_AND_TIME,
    **_prisms("clip", ("7b", "13b"), _ONE_STAGE, {}),
    **_prisms("siglip", ("7b", "13b"), _ONE_STAGE, _tower(_TOWERS["siglip"])),
    **_prisms("dinosiglip", ("7b", "13b"), _ONE_STAGE_FUSED, _tower(_FUSED_TOWERS["dinosiglip"])),
    **_prisms("dinosiglip-224px", ("7b",), _ONE_STAGE_FUSED, _tower("dinosiglip-vit-so-224px")),
}
"""What VideoWeave registers."""

UNREGISTERED_PRESETS: Mapping[str, Preset] = on_each_tower("llama3+8b", "llama3-8b-pure")
"""What VideoWeave defines, but `--model.type` could not name."""

_TINY: Preset = {
    **_ONE_STAGE,
    **_NAIVE,
    "vision_backbone_id": "video-tiny-vit",
    "llm_backbone_id": "tiny-llama",
    "llm_max_length": 512,
    "num_frames": 16,
    "finetune_global_batch_size": 32,
    "finetune_learning_rate": 3e-3,
    "finetune_lr_scheduler_type": "linear-warmup+linear-decay",
    "finetune_train_strategy": "fsdp-shard-grad-op",
    "enable_gradient_checkpointing": False,
    "enable_mixed_precision_training": False,
}

_WOVEN: Preset = {
    **_ONE_STAGE,
    **_NAIVE,
    "vision_backbone_id": "video-clip-vit-l-336px",
    "llm_backbone_id": "llama2-7b-pure",
    "llm_max_length": 11264,  # 16 * 576 visual tokens and 2048 of text, of 3 * 4096 positions
    "rope_scaling_factor": 3.0,
    "num_frames": 16,
    "finetune_global_batch_size": 2,
    "finetune_per_device_batch_size": 1,
    "init_from_model": "prism-clip+7b",
}

OWN_PRESETS: Mapping[str, Preset] = {
    "tiny": _TINY,
    **{f"videoweave-l{clips}": _WOVEN for clips in WOVEN_CLIPS},
}
"""Ours: a small real model, and the paper's runs, which differ in their data set and `model_id`."""

MODEL_PRESETS: Mapping[str, Preset] = {**OWN_PRESETS, **VIDEOWEAVE_PRESETS, **UNREGISTERED_PRESETS}
"""Ids that can be named; each id is also the default `model_id`."""
