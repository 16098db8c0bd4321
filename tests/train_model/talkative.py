"""Tiny random models of real architectures whose every next token is a clear choice."""

from __future__ import annotations

from typing import Any

import torch

from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, assemble_model

__all__ = ["ARCHITECTURES", "language_config", "talkative_model"]

ARCHITECTURES = ("llama", "dynamic", "gemma2", "gemma3", "mistral", "gpt2")


def language_config(kind: str, tokenizer: Any) -> Any:
    """Two layers; Gemma and Mistral see no further back than 12 tokens in one of them or both."""
    import transformers

    options: dict[str, Any] = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,  # a random model with tied ones repeats itself
    }
    windows = {"head_dim": 16, "sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"]}
    match kind:
        case "llama":
            return transformers.LlamaConfig(**options)
        case "dynamic":  # transformers' own, whose base grows with the longest row beyond 24 tokens
            rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 16.0}
            return transformers.LlamaConfig(
                **{**options, "max_position_embeddings": 24}, rope_parameters=rope
            )
        case "gemma2":
            return transformers.Gemma2Config(**options, **windows)
        case "gemma3":
            return transformers.Gemma3TextConfig(**options, **windows)
        case "gpt2":  # positions are learnt, not relative
            return transformers.GPT2Config(**options)
        case "mistral":
            return transformers.MistralConfig(**options, head_dim=16, sliding_window=12)
    raise AssertionError(kind)


def talkative_model(kind: str, settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    vlm = assemble_model(settings, tokenizer, language_config=language_config(kind, tokenizer))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in vlm.core.language_model.named_parameters():
            if value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=generator) * (1.0 if "embed" in name else 0.4))
        for value in vlm.core.projector.parameters():
            value.mul_(4.0)
    vlm.core.eval().requires_grad_(requires_grad=False)
    return vlm
