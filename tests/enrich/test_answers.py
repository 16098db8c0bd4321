"""Claims about which answers count and where they are kept."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from weave_data.config.enrich import AnswersConfig
from weave_data.enrich import (
    Answer,
    AnswerReason,
    ask_ids,
    check_answer,
    commit_answers,
    distinct_asks,
    read_answers,
    read_prompts,
)
from weave_data.errors import ConfigError
from weave_data.storage import open_store

RULES = AnswersConfig(max_chars=80)
PAIR = {"question": "Who runs?", "answer": "A dog."}


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("caption", "  \n", AnswerReason.EMPTY),
        ("caption", "x" * 81, AnswerReason.TOO_LONG),
        ("caption", "I'm sorry, but I can't help.", AnswerReason.REFUSAL),
        ("scene", "Who runs? A dog.", AnswerReason.NOT_JSON),
        ("scene", '{"question": "Who?"}', AnswerReason.WRONG_FIELDS),
        ("scene", '{"question": "Who?", "answer": " "}', AnswerReason.WRONG_FIELDS),
        ("scene", '{"question": "Who?", "answer": 3}', AnswerReason.WRONG_FIELDS),
        ("scene", '["question"]', AnswerReason.WRONG_FIELDS),
    ],
)
def test_a_malformed_answer_is_refused_with_its_reason(kind, text, reason) -> None:
    answer = check_answer("1", kind, text, is_cut_off=False, config=RULES)
    assert (answer.text, answer.reason, answer.detail) == (None, reason.value, text.strip())


def test_an_answer_that_was_cut_off_is_refused() -> None:
    assert check_answer("1", "caption", "A dog", is_cut_off=True, config=RULES).reason == "cut_off"


def test_good_answers_are_kept_in_one_form() -> None:
    assert check_answer("1", "caption", " A dog.\n", is_cut_off=False, config=RULES).text == "A dog."
    for text in (json.dumps(PAIR), f"```json\n{json.dumps(PAIR, indent=1)}\n```"):
        answer = check_answer("1", "scene", text, is_cut_off=False, config=RULES)
        assert answer.text == '{"answer":"A dog.","question":"Who runs?"}'


def test_equal_captions_are_asked_about_once_and_answered_ones_never() -> None:
    captions = pa.chunked_array([["a", "b"], ["a"]])
    asks = distinct_asks(captions, ["scene", "action"], pa.array([], pa.string()))
    assert asks.num_rows == 4
    answered = ask_ids(pa.array(["a"]), "scene")
    left = distinct_asks(captions, ["scene", "action"], answered)
    assert {(row["kind"], row["caption"]) for row in left.to_pylist()} == {
        ("action", "a"),
        ("action", "b"),
        ("scene", "b"),
    }


def test_an_accepted_answer_outranks_a_refused_one(tmp_path) -> None:
    store = open_store(str(tmp_path))
    assert read_answers(store, "k").num_rows == 0
    commit_answers(store, "k", [Answer("1", None, "refusal"), Answer("2", "two")])
    commit_answers(store, "k", [Answer("1", "one")])
    commit_answers(store, "k", [Answer("1", None, "empty_answer")])
    commit_answers(store, "other", [Answer("3", "three")])
    read = read_answers(store, "k")
    assert read.select(["ask_id", "answer"]).to_pylist() == [
        {"ask_id": "1", "answer": "one"},
        {"ask_id": "2", "answer": "two"},
    ]


def test_captions_fill_their_place_in_a_prompt_whatever_they_hold() -> None:
    kinds = ["caption", "action", "object", "scene", "temporal"]
    prompts = read_prompts(None, kinds, origin="shipped")
    assert len({prompt.sha256 for prompt in prompts.values()}) == 5
    for kind, prompt in prompts.items():
        system, user = prompt.messages("{caption} {0} {x}")
        assert user["content"].endswith("Caption: {caption} {0} {x}")
        assert ("JSON" in system["content"]) == (kind != "caption")


def test_a_prompt_without_a_place_for_the_caption_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml: caption.user: a text with \{caption\}"):
        read_prompts("caption: {user: Rewrite it}", ["caption"], origin="mine.yaml")
