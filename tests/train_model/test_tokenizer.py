"""The caption tokenizer: any text round-trips, training does not depend on order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_rows import CAPTIONS

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.languages import LANGUAGES, ControlTokens, round_up
from weave_train.models.tokenizer import (
    load_tokenizer,
    resolve_tokenizer,
    save_tokenizer,
    train_caption_tokenizer,
)


@given(text=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_round_trips(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(ids) == text


def test_training_does_not_depend_on_the_order_of_captions() -> None:
    shuffled = random.Random(3).sample(CAPTIONS, len(CAPTIONS))
    first, second = (train_caption_tokenizer(c, vocab_size=320) for c in (CAPTIONS, shuffled))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_merges_shorten_captions(tokenizer: Any) -> None:
    text = CAPTIONS[0]
    assert len(tokenizer.encode(text, add_special_tokens=False)) < len(text) / 3


def test_a_saved_tokenizer_comes_back(tokenizer: Any, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = CAPTIONS[3] + " é 日本 </s>"
    for one in (text, ""):
        assert loaded.encode(one, add_special_tokens=False) == tokenizer.encode(one, add_special_tokens=False)
    assert loaded.decode(loaded.encode(text, add_special_tokens=False, split_special_tokens=True)) == text
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    assert [getattr(loaded, name) for name in ids] == [getattr(tokenizer, name) for name in ids]
    assert len(loaded) == len(tokenizer)


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 259"):
        train_caption_tokenizer(CAPTIONS, vocab_size=200)


def test_a_directory_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't load a tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for name, weights in ((f"hf:{tmp_path}", "pretrained"), ("vicuna-v15-7b", str(tmp_path))):
        settings = ModelSettings(llm_backbone_id=name, llm_weights=weights)
        with pytest.raises(ConfigError, match=r"give a whole copy of the model, with tokenizer\.json"):
            resolve_tokenizer(settings, [])


def test_control_tokens_are_one_id_each_and_never_come_from_text() -> None:
    tokens = ControlTokens("<bos>", "<eos>", "<pad>", ("<turn>",))
    tokenizer = train_caption_tokenizer(CAPTIONS, tokens=tokens)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<bos>", "<eos>", "<pad>")
    (turn,) = tokenizer.encode("<turn>", add_special_tokens=False)
    assert turn not in tokenizer.encode("<turn>", add_special_tokens=False, split_special_tokens=True)


@pytest.mark.parametrize(
    ("llm_backbone_id", "folder", "pad", "rows"),
    [
        ("llama3-8b-instruct", "llama3-lenml", "<PAD>", 128320),
        ("mistral-v0.1-7b-instruct", "mistral-v1-hf", "<PAD>", 32064),
        ("phi-3-instruct-4b", "phi3-rebuilt", "<|pad|>", 32064),
    ],
)
def test_published_tokenizers_get_the_seeds_padding_token_and_rows(
    assets: Path, tmp_path: Path, llm_backbone_id: str, folder: str, pad: str, rows: int
) -> None:
    for path in (assets / "tokenizers" / folder).iterdir():
        (tmp_path / path.name).symlink_to(path)
    spec = LANGUAGES[llm_backbone_id]
    (tmp_path / "config.json").write_text(f'{{"model_type": "{spec.model_type}"}}')
    settings = ModelSettings(llm_backbone_id=llm_backbone_id, llm_weights=str(tmp_path))
    tokenizer = resolve_tokenizer(settings, [])
    assert len(tokenizer) == spec.tokenizer_length + 1
    assert round_up(len(tokenizer)) == spec.embedding_rows == rows
    assert (tokenizer.pad_token, tokenizer.padding_side) == (pad, "right")
    assert tokenizer.pad_token_id == spec.tokenizer_length, "no id that means something else"
    assert tokenizer.bos_token == spec.tokens.bos
    for token in spec.tokens.chat:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
