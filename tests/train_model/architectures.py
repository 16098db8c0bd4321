"""Tiny random models of the architectures that people bring, written as local directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_rows import CAPTIONS

from weave_data.torchvision_ops import install

__all__ = ["ARCHITECTURES", "write_model"]

_LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama-3.1": {"model_type": "llama", **_GROUPED, "rope_parameters": _LLAMA_3_ROPE},
    "smollm2": {"model_type": "llama", **_GROUPED, "tie_word_embeddings": True},
    "mistral-v0.3": {"model_type": "mistral", **_GROUPED, "sliding_window": None},
    "mistral-window": {"model_type": "mistral", **_GROUPED, "sliding_window": 16},
    "qwen2.5": {"model_type": "qwen2", **_GROUPED},
    "qwen3": {"model_type": "qwen3", **_GROUPED, "head_dim": 32, "tie_word_embeddings": True},
    "gemma": {"model_type": "gemma", "num_key_value_heads": 1, "head_dim": 32},
    "gemma2": {
        "model_type": "gemma2",
        **_GROUPED,
        "head_dim": 32,
        "sliding_window": 16,
        "query_pre_attn_scalar": 32,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 1.0,
    },
    "gemma3": {"model_type": "gemma3_text", **_GROUPED, "head_dim": 32, "sliding_window": 16},
    "phi-2": {"model_type": "phi", "resid_pdrop": 0.1},
    "phi-3": {"model_type": "phi3", "sliding_window": 16},
    "phi-4": {"model_type": "phi3", **_GROUPED, "rope_theta": 250000.0},
    "cohere": {"model_type": "cohere", **_GROUPED, "logit_scale": 0.0625},
    "granite": {
        "model_type": "granite",
        **_GROUPED,
        "logits_scaling": 3.0,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.5,
    },
    "olmo2": {"model_type": "olmo2", **_GROUPED},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
}


def write_model(name: str, folder: Path, **changes: Any) -> Path:
    """A directory for `hf:DIR`: weights large enough for caps and scales to show, and a tokenizer."""
    install()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from weave_train.models.seeding import seeded_weights
    from weave_train.models.tokenizer import train_caption_tokenizer

    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    sizes = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
    }
    config = AutoConfig.for_model(
        **{**sizes, **ARCHITECTURES[name], **changes},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded_weights(5):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    target = folder / name
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
