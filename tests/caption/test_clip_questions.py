"""Questions over the clips of a sample: their words, and that every answer is right."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.caption import ask_about_clips, is_clip_question, make_dialogues
from weave_data.config import RecipeConfig
from weave_data.config.captions import CLIP_QUESTION_TYPES, ClipQuestionsConfig
from weave_data.config.loading import load_config
from weave_data.errors import ConfigError

ALL = list(CLIP_QUESTION_TYPES)
SCENES = ["A dog runs.", "rain on a roof,", "Two boats", "A dog  sleeps!"]
SENTENCES = ["A dog runs.", "rain on a roof.", "Two boats.", "A dog sleeps!"]


def ask(samples, *, types=ALL, keys=None, **settings):
    config = ClipQuestionsConfig(types=types, **settings)
    names = pa.array([f"s{place}" for place in range(len(samples))] if keys is None else keys, pa.string())
    found = ask_about_clips(pa.array(samples, pa.list_(pa.string())), names, config)
    return list(zip(found.samples.tolist(), found.asked.to_pylist(), found.answers.to_pylist(), strict=True))


def check(question: str, answer: str, sentences: list[str]) -> str:
    """Answer a question naively from the sentences in their order; its type."""
    phrases = [re.sub(r"[.!?…。！？]+$", "", text) for text in sentences]  # noqa: RUF001
    if found := re.fullmatch(r"Which clip shows: (.*)\?", question):
        assert answer == f"Clip {phrases.index(found[1]) + 1}."
        return "which"
    if found := re.fullmatch(r"What is shown right (after|before): (.*)\?", question):
        place = phrases.index(found[2]) + (1 if found[1] == "after" else -1)
        assert place >= 0
        assert answer == sentences[place]
        return found[1]
    if found := re.fullmatch(r"Which is shown first: (.*), or (.*)\?", question):
        assert answer == sentences[min(phrases.index(found[1]), phrases.index(found[2]))]
        assert found[1] != found[2]
        return "first"
    if question.startswith("In which order"):
        items = re.findall(r"([A-Z]): (.*?)\.(?: (?=[A-Z]: )|$)", question.partition("? ")[2])
        assert [letter for letter, _ in items] == [chr(65 + place) for place in range(len(sentences))]
        right = sorted(items, key=lambda item: phrases.index(item[1]))
        assert answer == ", ".join(letter for letter, _ in right) + "."
        return "order"
    assert question == "List what each clip shows, in order."
    assert answer.split("\n") == [f"Clip {place}: {text}" for place, text in enumerate(sentences, 1)]
    return "list"


def test_the_words_of_every_type() -> None:
    found = {kind: sorted(row[1:] for row in ask([SCENES[:2]], types=[kind], per_sample=4)) for kind in ALL}
    assert found["which"] == [
        ("Which clip shows: A dog runs?", "Clip 1."),
        ("Which clip shows: rain on a roof?", "Clip 2."),
    ]
    assert found["after"] == [("What is shown right after: A dog runs?", "rain on a roof.")]
    assert found["before"] == [("What is shown right before: rain on a roof?", "A dog runs.")]
    assert found["list"] == [
        ("List what each clip shows, in order.", "Clip 1: A dog runs.\nClip 2: rain on a roof.")
    ]
    assert found["first"][0] in [
        ("Which is shown first: A dog runs, or rain on a roof?", "A dog runs."),
        ("Which is shown first: rain on a roof, or A dog runs?", "A dog runs."),
    ]
    assert found["order"][0] in [
        ("In which order are these shown? A: A dog runs. B: rain on a roof.", "A, B."),
        ("In which order are these shown? A: rain on a roof. B: A dog runs.", "B, A."),
    ]
    assert all(is_clip_question(question) for rows in found.values() for question, _ in rows)
    assert not is_clip_question("Describe what is happening in the video.")


@pytest.mark.parametrize("per_sample", [1, 3, 16])
def test_every_answer_is_right_and_types_come_by_turns(per_sample: int) -> None:
    rows = ask([SCENES] * 200, per_sample=per_sample)
    seen: dict[int, list[str]] = {}
    for sample, question, answer in rows:
        seen.setdefault(sample, []).append(check(question, answer, SENTENCES))
    assert len(rows) == len(set(rows)), "a sample is asked the same twice"
    assert set(map(len, seen.values())) == {min(per_sample, 15)}  # there are no more of four clips
    for kinds in seen.values():
        assert len(set(kinds)) == min(per_sample, len(ALL))
    firsts = [kinds[0] for kinds in seen.values()]
    assert all(15 <= firsts.count(kind) <= 60 for kind in ALL)  # 200 / 6 is 33; five deviations are 26


captions = st.lists(st.sampled_from(["a", "A.", "b", "c d", "e!", " ", "f"]), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150)
@given(st.lists(captions, max_size=5), st.integers(1, 5), st.integers(0, 3))
def test_captions_that_are_not_alone_or_blank_are_never_asked_about(samples, per_sample, seed) -> None:
    rows = ask(samples, per_sample=per_sample, seed=seed)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    for sample, question, answer in rows:
        texts = [text.strip() for text in samples[sample]]
        sentences = [text if not text or text[-1] in ".!?" else f"{text}." for text in texts]
        check(question, answer, sentences)
        assert answer
        bare = [text.rstrip(".!?").lower() for text in texts]
        for phrase in re.findall(r"(?:shows|after|before): (.*)\?", question):
            assert bare.count(phrase.lower()) == 1
        assert len(texts) > 1
    # one sample's questions don't depend on which others there are
    for sample, texts in enumerate(samples):
        alone = ask([texts], keys=[f"s{sample}"], per_sample=per_sample, seed=seed)
        assert [row[1:] for row in alone] == [row[1:] for row in rows if row[0] == sample]


def test_a_share_of_the_samples_is_asked_and_another_seed_asks_others() -> None:
    some = {row[0] for row in ask([SCENES] * 400, share=0.25)}
    assert 60 <= len(some) <= 140
    assert some != {row[0] for row in ask([SCENES] * 400, share=0.25, seed=8)}
    assert ask([["one", "one"]], types=["which", "first", "order"]) == []
    assert ask([[f"c{place}" for place in range(27)]], types=["order"]) == []
    assert ask([]) == []


def test_the_image_token_goes_before_the_first_question_alone() -> None:
    lists = pa.list_(pa.string())
    turns = make_dialogues(pa.array([["q1", "q2"], ["q3"]], lists), pa.array([["a1", "a2"], ["a3"]], lists))
    assert [[(turn["from"], turn["value"]) for turn in row] for row in turns.to_pylist()] == [
        [("human", "<image>\nq1"), ("gpt", "a1"), ("human", "q2"), ("gpt", "a2")],
        [("human", "<image>\nq3"), ("gpt", "a3")],
    ]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"types": ["which", "which"]}, "a type is named twice"),
        ({"types": ["who"]}, "'who' is not one of which, after"),
        ({"per_sample": 0}, "clip_questions.per_sample"),
        ({"share": 1.5}, "clip_questions.share"),
        ({"kinds": []}, "clip_questions.kinds"),
    ],
)
def test_settings_are_strict(values, problem) -> None:
    recipe = {"name": "r", "strategy": "random", "clips_per_sample": 4, "clip_questions": values}
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(RecipeConfig, recipe, origin="test")


@pytest.mark.parametrize("strategy", ["single", "given"])
def test_one_clip_is_not_asked_about(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"strategy {strategy} shows one"):
        load_config(RecipeConfig, {"name": "r", "strategy": strategy, "clip_questions": {}}, origin="test")
