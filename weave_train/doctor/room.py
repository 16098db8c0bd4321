"""Rough arithmetic: what a checkpoint takes, how many frames a second a GPU takes."""

from __future__ import annotations

import math
from typing import Any

from weave_train.config import PretrainConfig
from weave_train.languages import LANGUAGES
from weave_train.numbers.peaks import peak_flops

__all__ = ["checkpoint_bytes", "frames_per_second"]

ROW_FLOPS, ROW_FRAMES = 4.41e14, 16
"""Forward and backward of a row of the paper's model; see the costs in cluster_configs/README.md."""

MFU = 0.3
"""Assumed, as `weave-train estimate` does."""

_KEPT = 2  # the newest checkpoint is complete before the one before it goes


def checkpoint_bytes(config: PretrainConfig) -> float:
    """Of one checkpoint of a named language model that is trained whole; 0 where it is not known.

    fp32 masters and two states of AdamW, or bf16 ones, for each trained parameter.
    """
    spec = LANGUAGES.get(config.model.llm_backbone_id)
    if spec is None or config.stage == "align" or config.lora.rank is not None:
        return 0.0
    each = 6 if config.master_weights == "bf16" else 12
    return _parameters(dict(spec.sizes)) * each


def _parameters(sizes: dict[str, Any]) -> float:
    width, layers, inner = sizes["hidden_size"], sizes["num_hidden_layers"], sizes["intermediate_size"]
    heads = sizes["num_attention_heads"]
    kept = sizes["num_key_value_heads"] / heads
    attention = 2 * width * width * (1 + kept)
    return float(layers * (attention + 3 * width * inner) + 2 * sizes["vocab_size"] * width)


def frames_per_second(device_name: str, config: PretrainConfig) -> float:
    """Frames that the paper's model takes on a GPU of this name; nan for one that is not in the table."""
    peak = peak_flops(device_name, precision=config.precision)
    return math.nan if math.isnan(peak) else peak * MFU / ROW_FLOPS * ROW_FRAMES
