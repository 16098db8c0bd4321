"""Whether frames and text can fit, told before anything large is read.

T * P visual tokens + text  <=  llm_max_length  <=  positions * rope_scaling_factor
"""

from __future__ import annotations

import math

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.languages import language_spec, round_up
from weave_train.towers import num_visual_tokens

__all__ = ["check_context", "check_positions"]

_USUAL_TEXT = 256
_LEAST_TEXT = 2  # BOS and one token to learn


def check_context(settings: ModelSettings, *, num_frames: int | None) -> None:
    """Compare the sequences of a run with its `llm_max_length`, and that with the model's positions.

    Args:
        settings: Of a new run.
        num_frames: T of each of its rows, where the data set says it.

    Raises:
        ConfigError: Frames leave no room for text, or there are more tokens than positions.
    """
    spec = language_spec(settings.llm_backbone_id)
    factor = settings.rope_scaling_factor or 1.0
    if num_frames is not None:
        _check_frames(settings, num_frames, spec.positions if spec else None)
    if spec is not None and settings.llm_weights in ("pretrained", "random"):
        check_positions(settings, int(spec.positions * factor))


def check_positions(settings: ModelSettings, positions: int | None) -> None:
    """`llm_max_length` within the positions of the language model, scaled ones.

    Raises:
        ConfigError: There are fewer positions.
    """
    if positions is None or settings.llm_max_length <= positions:
        return
    factor = settings.rope_scaling_factor or 1.0
    needed = _factor(settings.llm_max_length, positions / factor)
    raise ConfigError(
        f"model.llm_max_length: {settings.llm_max_length} tokens are more than the {positions} positions of "
        f"{settings.llm_backbone_id}; set it to {positions} or less, or --model.rope_scaling_factor "
        f"{needed:g}"
    )


def _check_frames(settings: ModelSettings, num_frames: int, positions: int | None) -> None:
    num_visual = num_visual_tokens(num_frames, settings)
    if num_visual + _LEAST_TEXT <= settings.llm_max_length:
        return
    length = round_up(num_visual + _USUAL_TEXT)
    scaling = ""
    if positions is not None and length > positions * (settings.rope_scaling_factor or 1.0):
        scaling = (
            f" and --model.rope_scaling_factor {_factor(length, positions):g} "
            f"({settings.llm_backbone_id} has {positions} positions)"
        )
    raise ConfigError(
        f"model.llm_max_length: {num_frames} frames of {settings.vision_backbone_id} are {num_visual} visual "
        f"tokens, {settings.llm_max_length} leave no room for text; set --model.llm_max_length "
        f"{length}{scaling}, or train on fewer frames or with a tower of fewer patches"
    )


def _factor(length: int, positions: float) -> float:
    """Least factor in steps of a half."""
    return math.ceil(2 * length / positions) / 2
