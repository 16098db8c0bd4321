"""Pieces of an answer are whole characters, and put together they are the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_train.models.answer_text import AnswerText
from weave_train.models.tokenizer import load_tokenizer, train_caption_tokenizer

BYTE_LEVEL = train_caption_tokenizer(["The end."], vocab_size=300)


def pieces_of(tokenizer: Any, ids: list[int], stop_strings: tuple[str, ...] = ()) -> list[str]:
    text = AnswerText(tokenizer, stop_strings)
    pieces = []
    for token in ids:
        pieces.append(text.add(token))
        if text.is_stopped:
            break
    return [*pieces, text.finish()]


def check(tokenizer: Any, said: str, stop_strings: tuple[str, ...] = ()) -> None:
    ids = tokenizer.encode(said, add_special_tokens=False)
    whole = AnswerText(tokenizer, stop_strings)
    whole.extend(ids)
    pieces = pieces_of(tokenizer, ids, stop_strings)
    assert "".join(pieces) == whole.whole()
    cuts = [said.find(stop) for stop in stop_strings if stop in said]
    assert whole.whole() == said[: min(cuts, default=len(said))].strip()


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
    st.lists(st.text(st.sampled_from("ab \u00e9"), min_size=1, max_size=3), max_size=2),
)
def test_pieces_put_together_are_the_answer(said: str, stops: list[str]) -> None:
    check(BYTE_LEVEL, said, tuple(stops))


def test_no_piece_holds_part_of_a_character() -> None:
    said = "h\u00e9 \U0001f600 \u732b"
    ids = BYTE_LEVEL.encode(said, add_special_tokens=False)
    assert len(ids) > len(said)
    assert "\ufffd" not in "".join(pieces_of(BYTE_LEVEL, ids))
    assert "\ufffd" in "".join(pieces_of(BYTE_LEVEL, ids[:-1]))  # the answer itself ended within one
    assert "\ufffd" in pieces_of(BYTE_LEVEL, BYTE_LEVEL.encode("a\ufffdb", add_special_tokens=False))[-2]


def test_white_space_waits_for_what_follows() -> None:
    ids = BYTE_LEVEL.encode(" a  b ", add_special_tokens=False)
    pieces = pieces_of(BYTE_LEVEL, ids)
    assert "".join(pieces) == "a  b"
    assert all(not piece.endswith(" ") for piece in pieces)


@pytest.mark.parametrize("folder", ["llama3-lenml", "mistral-v1-hf", "mistral-v3-hf", "phi3-rebuilt"])
def test_real_tokenizers_stream_what_they_decode(assets: Path, folder: str) -> None:
    tokenizer = load_tokenizer(assets / "tokenizers" / folder)
    said = "The cat\u2019s h\u00e9 \U0001f600 sat , and didn 't  move.\n\n\u732b!"
    check(tokenizer, said)
    check(tokenizer, said, ("move", "zzz"))


def test_what_a_model_says_before_every_answer_is_no_part_of_it(tokenizer: Any) -> None:
    for said, expected in (
        ("assistant\nA red dot.", "A red dot."),
        ("A red dot.", "A red dot."),
        ("assist me", "assist me"),
        ("assistant\n", ""),
    ):
        text = AnswerText(tokenizer, opening="assistant\n")
        pieces = [text.add(token) for token in tokenizer.encode(said, add_special_tokens=False)]
        pieces.append(text.finish())
        assert "".join(pieces) == text.whole() == expected
