"""Model ids and data set ids that `--model.type` and `--dataset.type` name.

A preset is only what differs from the defaults of `weave_train.config.ModelConfig`, which are those
of VideoWeave's base configuration (`reproduction-llava-v15+7b`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from weave_data.errors import ConfigError

__all__ = ["DATASET_IDS", "DEFAULT_MODEL_TYPE", "MODEL_PRESETS", "model_preset", "nearest"]

DEFAULT_MODEL_TYPE = "prism-clip+7b"

_ONE_STAGE = {"arch_specifier": "no-align+gelu-mlp"}

MODEL_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        **_ONE_STAGE,
        "vision_backbone_id": "video-tiny-vit",
        "llm_backbone_id": "tiny-llama",
        "image_resize_strategy": "resize-naive",
        "llm_max_length": 512,
        "num_frames": 16,
        "finetune_global_batch_size": 32,
        "finetune_learning_rate": 3e-3,
        "finetune_lr_scheduler_type": "linear-warmup+linear-decay",
        "finetune_train_strategy": "fsdp-shard-grad-op",
        "enable_gradient_checkpointing": False,
        "enable_mixed_precision_training": False,
    },
    "reproduction-llava-v15+7b": {},
    "reproduction-llava-v15+13b": {"llm_backbone_id": "vicuna-v15-13b"},
    "one-stage+7b": _ONE_STAGE,
    "one-stage+13b": {**_ONE_STAGE, "llm_backbone_id": "vicuna-v15-13b"},
    "prism-clip+7b": {
        **_ONE_STAGE,
        "llm_backbone_id": "llama2-7b-pure",
        "image_resize_strategy": "resize-naive",
        "finetune_epochs": 2,
    },
}
"""Ids that can be named today; each id is also the default `model_id`."""

DATASET_IDS = (
    "llava-v15",
    "llava-multimodal",
    "llava-lvis4v",
    "llava-lrv",
    "llava-lvis4v-lrv",
    "video-llava-v15",
    "webvid",
    "webvid_val",
)
"""VideoWeave's registry of JSON lists."""


def model_preset(model_type: str) -> dict[str, Any]:
    """Settings of a model id, `model_id` included.

    Raises:
        ConfigError: No such id; the nearest one is named.
    """
    if model_type not in MODEL_PRESETS:
        raise ConfigError(
            f"model.type: {model_type!r} is not a known model id ({nearest(model_type, MODEL_PRESETS)})",
            origin="command line",
        )
    return {"model_id": model_type, **MODEL_PRESETS[model_type]}


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
