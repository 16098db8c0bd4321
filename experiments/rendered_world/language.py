"""A small language model's configuration and tokenizer, the same for every arm.

A run without a tokenizer trains one on its own captions, so arms would differ in their tokens. This one is
trained once, on what clips and questions say, and named as `hf:DIR` with `--model.llm_weights random`.
"""

from __future__ import annotations

from pathlib import Path

from experiments.rendered_world.clips import clip_film
from experiments.rendered_world.single_clip_qa import ask_clip
from experiments.rendered_world.words import caption, rewritten

__all__ = ["write_language"]

_NUM_TEXTS = 3000
_PROMPT = "Describe what is happening in the video."
_ROUND = 64


def write_language(directory: Path, *, seed: int, max_tokens: int = 1024) -> int:
    """Write what transformers reads of a Llama of about 3 M parameters, without weights.

    Args:
        directory: Created if needed.
        seed: Of the texts the tokenizer is trained on.
        max_tokens: Positions.

    Returns:
        Tokens in the vocabulary.
    """
    from weave_data.torchvision_ops import install
    from weave_train.models.tokenizer import save_tokenizer, train_caption_tokenizer

    install()  # before transformers, which imports torchvision
    from transformers import LlamaConfig

    texts = [_PROMPT] * 2
    for index in range(_NUM_TEXTS):
        (scene,) = clip_film(seed, index).scenes
        asked = ask_clip(seed, index)
        texts += [f" {caption(scene)}.", f" {rewritten(scene, seed=seed, index=index)}."]
        texts += [f"In: {asked.question}\nOut: {asked.answer}"]
    tokenizer = train_caption_tokenizer(texts, vocab_size=768)
    directory.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, directory)
    rows = -(-len(tokenizer) // _ROUND) * _ROUND
    LlamaConfig(
        vocab_size=rows,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=max_tokens,
        initializer_range=0.02,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(directory)
    return len(tokenizer)
