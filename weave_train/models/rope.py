"""Rotary positions beyond those a model was trained for; settled once, when a run is built.

    dynamic          NTK: the base that transformers' dynamic NTK has at exactly `llm_max_length` tokens, for
                     every batch; saved in the run as an ordinary `rope_theta`
    legacy-dynamic   transformers' own: the base grows with the longest batch seen so far and falls back
                     with a short one, so what a row gives depends on the rows before and beside it
    yarn, linear     as transformers computes them; no state

With factor F a model of P positions takes up to P * F tokens. A model whose own configuration is
dynamic or LongRoPE is frozen likewise: the same row gives the same logits in any batch.

Source:
    Dynamic NTK: transformers `_compute_dynamic_ntk_parameters`, which VideoWeave trained with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["keep_frequencies", "num_positions", "scale_positions", "scaled_base"]


def scaled_base(base: float, *, factor: float, positions: int, length: int, dim: int) -> float:
    """Base of NTK-scaled rotary frequencies for sequences of `length` tokens.

    Args:
        base: Of the model as trained.
        factor: F, at least 1.
        positions: P the model was trained for; up to there the base stays.
        length: Tokens.
        dim: Rotated part of a head, above 2.
    """
    stretch = factor * max(length, positions) / positions - (factor - 1)
    return float(base * stretch ** (dim / (dim - 2)))


def num_positions(config: PretrainedConfig, settings: ModelSettings) -> int | None:
    """Longest sequence a model takes once its positions are scaled; None: there is no limit.

    Args:
        config: As published, before `scale_positions`.
        settings: Of the run.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    factor = settings.rope_scaling_factor
    if factor is None and _is(config, "dynamic"):
        factor = config.rope_parameters["factor"]
    return int(positions * (factor or 1.0))


def scale_positions(config: PretrainedConfig, settings: ModelSettings) -> None:
    """Write a run's scaling into the configuration its language model is built from.

    Args:
        config: As published; changed in place.
        settings: `rope_scaling_factor`, `rope_scaling_type` and `llm_max_length` are used.

    Raises:
        ConfigError: The model has no rotary positions to scale, or scales them already.
    """
    factor = settings.rope_scaling_factor
    if factor is None:
        _freeze_own(config, settings.llm_max_length)
        return
    rope = _plain_rope(config, settings)
    positions = int(config.max_position_embeddings)
    match settings.rope_scaling_type:
        case "dynamic":
            _freeze_dynamic(config, rope, factor, settings.llm_max_length)
        case "legacy-dynamic":
            config.rope_parameters = {**rope, "rope_type": "dynamic", "factor": factor}
        case "yarn":
            config.rope_parameters = {
                **rope,
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": positions,
            }
            config.max_position_embeddings = math.floor(positions * factor)
        case "linear":
            config.rope_parameters = {**rope, "rope_type": "linear", "factor": factor}
            config.max_position_embeddings = math.floor(positions * factor)


def keep_frequencies(model: nn.Module) -> None:
    """Keep rotary frequencies in fp32 when a model is cast: in bf16, position 10,000 turns by 40 rad less
    or more. Transformers keeps them, too, where it loads a model in bf16.
    """
    for module in model.modules():
        if any(name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False)):
            module._apply = functools.partial(_apply_but_cast, module)  # type: ignore[method-assign]


def _apply_but_cast(
    module: nn.Module,
    fn: Callable[[torch.Tensor], torch.Tensor],
    recurse: bool = True,
) -> nn.Module:
    before = dict(module.named_buffers(recurse=False))
    type(module)._apply(module, fn, recurse)
    for name, value in before.items():
        after = module._buffers[name]
        if after is not None and not value.is_meta:
            module._buffers[name] = value.to(after.device)
    return module


def _freeze_own(config: PretrainedConfig, length: int) -> None:
    if _is(config, "dynamic"):
        rope = dict(config.rope_parameters)
        _freeze_dynamic(config, rope, rope.pop("factor"), length)
    elif _is(config, "longrope"):
        rope = dict(config.rope_parameters)
        original = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
        chosen = rope["long_factor" if length > original else "short_factor"]
        config.rope_parameters = {**rope, "long_factor": chosen, "short_factor": chosen}


def _freeze_dynamic(config: PretrainedConfig, rope: dict[str, Any], factor: float, length: int) -> None:
    positions = int(config.max_position_embeddings)
    base = scaled_base(
        rope["rope_theta"], factor=factor, positions=positions, length=length, dim=_rotated_dim(config, rope)
    )
    config.rope_parameters = {**rope, "rope_type": "default", "rope_theta": base}
    config.max_position_embeddings = max(positions, length)


def _plain_rope(config: PretrainedConfig, settings: ModelSettings) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None)
    name = f"model.rope_scaling_factor: {settings.llm_backbone_id}"
    if not rope or "rope_theta" not in rope:
        kind = "RoPE of several kinds in its layers" if rope else "no rotary positions"
        raise ConfigError(f"{name} has {kind}, which can't be scaled; leave the flag out")
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(
            f"{name} scales its positions by itself ({rope['rope_type']}, up to "
            f"{config.max_position_embeddings} tokens); leave the flag out"
        )
    return dict(rope)


def _rotated_dim(config: PretrainedConfig, rope: dict[str, Any]) -> int:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head * rope.get("partial_rotary_factor", 1.0))


def _is(config: PretrainedConfig, rope_type: str) -> bool:
    rope = getattr(config, "rope_parameters", None)
    return rope is not None and rope.get("rope_type") == rope_type
