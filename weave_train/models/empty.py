"""A model whose weights hold whatever is in memory, for the caller to fill every one of.

Drawing seven billion random numbers takes longer than reading them, and untouched memory is not used up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, assemble_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["assemble_empty"]


def assemble_empty(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    language_config: PretrainedConfig,
    *,
    dtype: torch.dtype | None = None,
    trains_vision: bool = False,
) -> VideoLanguageModel:
    """`assemble_model` without random numbers; buffers are as always.

    Args:
        settings: As there.
        tokenizer: As there.
        language_config: As there.
        dtype: Of all weights; None leaves them as `assemble_model` makes them.
        trains_vision: As there.

    Raises:
        ConfigError: As there.
    """
    install()
    from transformers.initialization import no_init_weights

    with no_init_weights():
        vlm = assemble_model(
            settings, tokenizer, language_config=language_config, trains_vision=trains_vision
        )
    vlm.core.language_model.tie_weights()  # is part of what was left out
    if dtype is not None:
        vlm.tower.to(dtype=dtype)
        vlm.core.to(dtype=dtype)
    return vlm
