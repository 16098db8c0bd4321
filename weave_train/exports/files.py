"""Files that both transformers formats have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from weave_data.errors import VerificationError
from weave_train.exports.vocabulary import Vocabulary
from weave_train.models.language import embedding_scale
from weave_train.models.model import VideoLanguageModel

__all__ = ["check_loading", "round_weights", "write_generation_config", "write_weights"]

_SHARD_BYTES = 4_000_000_000


@torch.no_grad()
def round_weights(vlm: VideoLanguageModel, dtype: torch.dtype, *, folds_scale: bool) -> None:
    """Round weights, in place, to what will be stored, so that a comparison in fp32 compares the same.

    Buffers stay: rotary frequencies in bf16 would be other ones.

    Args:
        vlm: In fp32.
        dtype: Of the stored weights.
        folds_scale: The projector's last layer is stored times the scale of visual tokens.
    """
    scale = embedding_scale(vlm.core.language_model) if folds_scale else 1.0
    *_, last_layer = vlm.core.projector.children()
    last = {id(value) for value in last_layer.parameters()}
    for module in (vlm.tower, vlm.core):
        for value in module.parameters():
            factor = scale if id(value) in last else 1.0
            value.copy_((value * factor).to(dtype).to(value.dtype) / factor)


def write_weights(directory: Path, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Safetensors of at most 4 GB, with an index where there are several."""
    from huggingface_hub import save_torch_state_dict

    stored = {name: value.detach().to(dtype).contiguous() for name, value in weights.items()}
    save_torch_state_dict(stored, directory, max_shard_size=_SHARD_BYTES, metadata={"format": "pt"})


def write_generation_config(directory: Path, vlm: VideoLanguageModel, vocabulary: Vocabulary) -> None:
    """EOS as the run was trained with, and no token that means nothing."""
    from transformers import GenerationConfig

    GenerationConfig(
        bos_token_id=vlm.tokenizer.bos_token_id,
        eos_token_id=list(vocabulary.stop_ids),
        pad_token_id=vlm.tokenizer.pad_token_id,
        suppress_tokens=vocabulary.never_answered,
    ).save_pretrained(directory)


def check_loading(found: Mapping[str, Any]) -> None:
    """Every tensor of a file has a place in the model, and the other way round.

    Raises:
        VerificationError: One has not.
    """
    problems = [
        f"{kind}: {name}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for name in found.get(kind, ())
    ]
    if problems:
        raise VerificationError(
            f"transformers finds {problems[0]} (of {len(problems)}) in the export; nothing was exported"
        )
