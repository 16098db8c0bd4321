"""Claims about joined captions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_data.caption import join_captions

words = st.text("ab .,;:-!?。'\")é\t", max_size=8)
lists = st.lists(st.lists(words, min_size=1, max_size=4), max_size=5)


def sentence(caption: str) -> str:
    text = caption.strip().rstrip(" \t,;:–—-")  # noqa: RUF001
    bare = text.rstrip("\"'”’»)]")  # noqa: RUF001
    return text if not text or bare.endswith(tuple(".!?…。！？")) else f"{text}."  # noqa: RUF001


@given(lists)
def test_sentences_end_once_and_blank_captions_vanish(samples) -> None:
    joined = join_captions(pa.array(samples, pa.list_(pa.string())), style="sentences")
    assert joined.to_pylist() == [" ".join(filter(None, map(sentence, sample))) for sample in samples]


@given(lists)
def test_clips_are_numbered_from_one_in_every_sample(samples) -> None:
    joined = join_captions(pa.array(samples, pa.list_(pa.string())), style="numbered")
    expected = [
        "\n".join(f"Clip {place}: {sentence(caption)}".rstrip() for place, caption in enumerate(sample, 1))
        for sample in samples
    ]
    assert joined.to_pylist() == expected


def test_times_are_those_of_each_clip() -> None:
    seconds = np.array([[0, 12.44], [0.96, 3], [0, 0]], dtype=np.float32)
    joined = join_captions(pa.array([["A dog.", "a cat"], ["Rain!"]]), style="timed", seconds=seconds)
    assert joined.to_pylist() == [
        "Clip 1 (0.0-12.4 s): A dog.\nClip 2 (1.0-3.0 s): a cat.",
        "Clip 1 (0.0-0.0 s): Rain!",
    ]


def test_times_of_a_slice_are_joined() -> None:
    captions = pa.array([["x"], ["a", "b"]])[1:]
    seconds = np.array([[0, 1], [0, 2]], dtype=np.float32)
    joined = join_captions(captions, style="timed", seconds=seconds)
    assert joined.to_pylist() == ["Clip 1 (0.0-1.0 s): a.\nClip 2 (0.0-2.0 s): b."]


@pytest.mark.parametrize("seconds", [None, np.zeros((3, 2), np.float32)])
def test_times_must_be_given_for_every_clip(seconds) -> None:
    with pytest.raises(ValueError, match=r"needs seconds of shape \(1, 2\)"):
        join_captions(pa.array([["a"]]), style="timed", seconds=seconds)
