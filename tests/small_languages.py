"""Shrunken twins of the fifteen language ids: the same classes and families, tiny sizes, real tokenizers.

What the published configuration says of positions, RoPE, windows, head groups and ties stays; widths and
layers shrink. The tokenizer is a byte-level BPE with the family's control tokens and its own padding token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_rows import CAPTIONS

from weave_data.torchvision_ops import install
from weave_train.languages import LANGUAGES, ControlTokens, LanguageSpec

__all__ = ["small_sizes", "write_small_language"]

_PADDING = {"gemma": "<pad>", "phi-2": "<|endoftext|>", "phi-3": "<|endoftext|>"}
"""Of the published tokenizers; the Llamas and Mistrals have an unknown token at best."""


def small_sizes(spec: LanguageSpec) -> dict[str, Any]:
    """Published sizes with tiny widths: heads of 16, or 32 where they are not width / heads."""
    groups = spec.sizes["num_attention_heads"] // spec.sizes["num_key_value_heads"]
    sizes = {
        **spec.sizes,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": max(1, 4 // groups),
    }
    return {**sizes, "head_dim": 32} if "head_dim" in sizes else sizes


def write_small_language(llm_backbone_id: str, folder: Path, *, seed: int = 3, **changes: Any) -> Path:
    """Write a directory that `--model.llm_weights` takes for an id.

    Args:
        llm_backbone_id: One of `languages.LANGUAGES`.
        folder: Written into `folder / llm_backbone_id`.
        seed: Of the weights.
        changes: Fields of the configuration.
    """
    install()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from weave_train.models.seeding import seeded_weights
    from weave_train.models.tokenizer import train_caption_tokenizer

    spec = LANGUAGES[llm_backbone_id]
    padding = _PADDING.get(spec.family, "<unk>")
    tokens = ControlTokens(spec.tokens.bos, spec.tokens.eos, padding, spec.tokens.chat)
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320, tokens=tokens)
    config = AutoConfig.for_model(
        spec.model_type,
        **{**small_sizes(spec), "vocab_size": len(tokenizer), **changes},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded_weights(seed):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    target = folder / llm_backbone_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
