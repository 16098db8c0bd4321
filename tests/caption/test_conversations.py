"""Claims about the text of a sample."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_data.caption import join_captions, make_conversations
from weave_data.records import PLAN_SCHEMA

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.lists(texts, min_size=1, max_size=4), max_size=5))
def test_parity_joins_as_videoweave_does(samples) -> None:
    joined = join_captions(pa.array(samples, pa.list_(pa.string())), style="parity")
    # U+FEFF is white space to neither; the separators U+001C..U+001F are to both
    assert joined.to_pylist() == ["".join(f"{caption}. " for caption in sample).strip() for sample in samples]


def test_captions_are_kept_as_they_are_between_the_joins() -> None:
    joined = join_captions(pa.array([["  A dog.", "Two  cats "]]), style="parity")
    assert joined.to_pylist() == ["A dog.. Two  cats ."]


def test_captions_of_a_slice_are_joined() -> None:
    captions = pa.array([["a"], ["b", "c"], ["d"]])
    assert join_captions(captions[1:], style="parity").to_pylist() == ["b. c.", "d."]


def test_the_human_asks_about_the_frames_and_gpt_answers() -> None:
    turns = make_conversations("What?", pa.array(["A dog.", "Zwei Kätzchen."]))
    turns.validate(full=True)
    assert turns.type == PLAN_SCHEMA.field("conversations").type
    assert turns.to_pylist() == [
        [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}],
        [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Zwei Kätzchen."}],
    ]


@pytest.mark.parametrize("num_samples", [0, 1])
def test_conversations_of_few_samples(num_samples) -> None:
    answers = pa.array(["x"] * num_samples, pa.string())
    assert len(make_conversations("?", answers)) == num_samples
