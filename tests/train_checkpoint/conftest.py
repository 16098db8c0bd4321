"""A small data set to train on, and a language model whose sizes no world divides."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import write_woven_dataset
from training_runs import Training


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("elastic")
    manifest = write_woven_dataset(root / "woven", rows=75, clips_per_sample=2, frames_per_sample=4)
    return Training(manifest, root / "runs")


@pytest.fixture(scope="session")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with tied embeddings and prime-ish widths: no parameter divides by 2, 3 and 4 alike."""
    from weave_data.torchvision_ops import install
    from weave_train.models.tokenizer import save_tokenizer, train_caption_tokenizer

    install()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("odd") / "model"
    words = [f"a {colour} ball moves {way}" for colour in ("red", "blue") for way in ("left", "right")]
    tokenizer = train_caption_tokenizer(words, vocab_size=300)
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320,
            hidden_size=38,
            intermediate_size=53,
            num_hidden_layers=2,
            num_attention_heads=1,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    return directory
