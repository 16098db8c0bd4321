"""Scores, intervals and comparisons agree with what can be worked out by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from weave_data.errors import ConfigError, DeviceError, SourceError
from weave_train.commands.compare import compare as compare_command
from weave_train.evaluate.answer import Answer
from weave_train.evaluate.compare import compare
from weave_train.evaluate.exact import exact_match, plain_words
from weave_train.evaluate.intervals import mean_interval, paired_difference
from weave_train.evaluate.scoring import score_open
from weave_train.evaluate.wups import Wups, open_wordnet


def test_exact_match_looks_at_words_not_at_marks() -> None:
    assert plain_words("The two men's, red-hot dogs!") == ["2", "mens", "red", "hot", "dogs"]
    assert exact_match("a dog.", ["cat", "The Dog"]) == 1.0
    assert exact_match("dogs", ["dog"]) == 0.0
    assert exact_match("", ["dog"]) == 0.0


class FewWords:
    """A WordNet of three senses: wup of dog and puppy .9, of dog and cat .8."""

    def synsets(self, word: str) -> list[str]:
        return [word] if word in ("dog", "puppy", "cat") else []

    def wup_similarity(self, one: str, other: str) -> float:
        return {("dog", "puppy"): 0.9, ("cat", "dog"): 0.8, ("cat", "puppy"): 0.7}[
            tuple(sorted((one, other)))
        ]


@pytest.mark.parametrize(
    ("answer", "references", "threshold", "score"),
    [
        ("dog", ["dog"], 0.9, 1.0),
        ("puppy", ["dog"], 0.9, 0.9),
        ("cat", ["dog"], 0.9, 0.08),
        ("cat", ["dog"], 0.0, 0.8),
        ("cat", ["dog", "cat"], 0.9, 1.0),
        ("stone", ["dog"], 0.0, 0.0),
        ("dog cat", ["dog"], 0.0, 0.8),  # every word of both sides needs a near one: min(1 * .8, 1)
        ("the dog", ["dog"], 0.9, 1.0),
        ("", ["dog"], 0.0, 0.0),
    ],
)
def test_wups_is_the_smaller_of_two_products(
    answer: str, references: list[str], threshold: float, score: float
) -> None:
    assert Wups(FewWords()).score(answer, references, threshold=threshold) == pytest.approx(score)


def test_wups_over_the_real_wordnet() -> None:
    if not Path("/usr/share/wordnet/index.sense").is_file():
        pytest.skip("needs WordNet: apt-get install wordnet-base wordnet-sense-index")
    with open_wordnet(Path("/usr/share/wordnet")) as wordnet:
        wups = Wups(wordnet)
        assert wups.score("puppies", ["puppy"], threshold=0.9) == 1.0
        dog, cat = wordnet.synsets("dog")[0], wordnet.synsets("cat")[0]
        expected = max(
            wordnet.wup_similarity(a, b) or 0 for a in wordnet.synsets("dog") for b in wordnet.synsets("cat")
        )
        assert wordnet.wup_similarity(dog, cat) == pytest.approx(0.857, abs=1e-3)
        assert wups.score("dog", ["cat"], threshold=0.0) == pytest.approx(expected)


def test_a_wordnet_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="apt-get install wordnet-base"), open_wordnet(tmp_path):
        pass


def answer(number: int, **fields: object) -> Answer:
    values = {"mode": "frames", "video": f"v{number // 2}", **fields}
    return Answer(id=f"q{number}", **values)  # type: ignore[arg-type]


def test_caption_metrics_are_the_published_ones() -> None:
    texts = [
        "a red circle moves left",
        "a blue box stands still",
        "two green dots jump",
        "nothing at all happens",
    ]
    answers = [
        answer(n, references=(text,), generated=f"{text.capitalize()}.") for n, text in enumerate(texts)
    ]
    same = score_open(answers, ("captions",))
    assert [a.scores["bleu_4"] for a in same] == pytest.approx([1.0] * 4, abs=1e-6)
    assert [a.scores["rouge_l"] for a in same] == pytest.approx([1.0] * 4)
    # all n-grams of each are its own: a perfect sentence scores 10, as in the published code
    assert [a.scores["cider"] for a in same] == pytest.approx([10.0] * 4, abs=1e-6)
    swapped = [answer(n, references=(text,), generated=texts[n - 1]) for n, text in enumerate(texts)]
    assert max(a.scores["cider"] for a in score_open(swapped, ("captions",))) < 1.0
    shorter = score_open([answer(0, references=("a b c d",), generated="a b")], ("captions",))
    precision, recall, beta = 1.0, 0.5, 1.2
    rouge = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    # one article less: "b c d" against "b"
    precision, recall = 1.0, 1 / 3
    rouge = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert shorter[0].scores["rouge_l"] == pytest.approx(rouge)


def test_choices_and_lost_questions_pass_open_scoring_untouched() -> None:
    given = [answer(0, answer=1, scores={"likelihood": 1.0}), answer(1, problem="missing-video: no")]
    assert score_open(given, ("exact",)) == given


def test_an_interval_draws_videos_not_questions() -> None:
    values = [1.0] * 50 + [0.0] * 50
    alone = mean_interval(values, [str(number) for number in range(100)])
    assert alone.mean == 0.5
    error = math.sqrt(0.25 / 100)
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    # ten questions about each of ten videos, all right or all wrong: ten observations, not a hundred
    grouped = mean_interval(values, [str(number // 10) for number in range(100)])
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.15)


def test_an_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        values = (rng.random(120) < 0.4).astype(float).tolist()
        interval = mean_interval(values, [str(n) for n in range(120)], num_draws=400)
        held += interval.low <= 0.4 <= interval.high
    assert 0.9 <= held / 200 <= 0.99


def test_a_paired_difference_is_tighter_than_two_intervals_and_p_is_uniform_without_one() -> None:
    rng = random.Random(3)
    theirs = [float(rng.random() < 0.5) for _ in range(200)]
    ours = [1.0 if rng.random() < 0.1 else value for value in theirs]
    groups = [str(n) for n in range(200)]
    interval, p_value = paired_difference(ours, theirs, groups)
    assert interval.mean == pytest.approx(sum(ours) / 200 - sum(theirs) / 200)
    assert interval.low > 0
    assert p_value < 0.01
    alone = mean_interval(ours, groups)
    assert interval.high - interval.low < (alone.high - alone.low) * 0.6
    p_values = []
    for _ in range(100):
        noise = [rng.gauss(0, 1) for _ in range(60)]
        p_values.append(paired_difference(noise, [0.0] * 60, groups[:60], num_draws=300)[1])
    assert sum(p < 0.05 for p in p_values) <= 14
    assert paired_difference([1.0, 0.0], [1.0, 0.0], ["a", "b"])[1] == 1.0


def write(folder: Path, answers: list[Answer]) -> Path:
    folder.mkdir()
    (folder / "answers.jsonl").write_text("".join(a.to_line() + "\n" for a in answers))
    return folder


def test_two_evaluations_are_compared_question_by_question(tmp_path: Path) -> None:
    def scored(values: list[float]) -> list[Answer]:
        tags = [{"type": "order" if n % 2 else "count"} for n in range(len(values))]
        return [
            answer(n, answer=0, scores={"generated": 0.0, "likelihood": value}, tags=tags[n])
            for n, value in enumerate(values)
        ]

    ours = write(tmp_path / "a", scored([1.0, 1.0, 1.0, 0.0]))
    theirs = write(
        tmp_path / "b", [*scored([1.0, 0.0, 1.0, 0.0]), answer(9, answer=0, scores={"likelihood": 1.0})]
    )
    found = compare(ours, theirs)
    assert (found.metric, found.num_unpaired) == ("likelihood", 1)
    assert [(d.tag, d.count, d.ours, d.theirs) for d in found.differences] == [
        (None, 4, 0.75, 0.5), ("type=count", 2, 1.0, 1.0), ("type=order", 2, 0.5, 0.0),
    ]  # fmt: skip
    assert compare(ours, theirs, metric="generated").differences[0].difference.mean == 0.0
    with pytest.raises(ConfigError, match="share no answered question in mode 'blind'"):
        compare(ours, theirs, mode="blind")
    with pytest.raises(ConfigError, match="'cider' is not in both"):
        compare(ours, theirs, metric="cider")
    other = write(tmp_path / "c", [answer(0, answer=1, scores={"likelihood": 1.0})])
    with pytest.raises(ConfigError, match="has another right answer"):
        compare(ours, other)


def mixed(folder: Path, right: int, *, sha256: str) -> Path:
    """An open question first, then four choices, `right` of them right, then one that was not generated."""
    answers = [answer(0, references=("x",), generated="x", scores={"exact": 1.0})]
    answers += [
        answer(n, answer=0, scores={"generated": 0.0, "likelihood": float(n <= right)}, tags={"type": "a[b]"})
        for n in range(1, 5)
    ]
    write(folder, [*answers, answer(5, answer=0, scores={"likelihood": 1.0})])
    (folder / "results.json").write_text(json.dumps({"questions_sha256": sha256}))
    return folder


def test_the_metric_of_a_mixed_file_is_chosen_over_all_its_questions(tmp_path: Path) -> None:
    ours, theirs = mixed(tmp_path / "a", 3, sha256="1"), mixed(tmp_path / "b", 2, sha256="1")
    for metric in (None, "likelihood"):
        found = compare(ours, theirs, metric=metric)
        assert (found.metric, found.num_without_metric, found.differences[0].count) == ("likelihood", 1, 5)
        assert found.differences[0].difference.mean == pytest.approx(0.2)
        assert not found.is_of_other_files
    assert compare(ours, theirs, metric="generated").num_without_metric == 2
    assert compare(ours, theirs, metric="exact").differences[0].count == 1
    few = [answer(n, scores={"exact": 1.0} if n == 0 else {"cider": 1.0}) for n in range(3)]
    assert compare(write(tmp_path / "c", few), write(tmp_path / "d", few)).metric == "cider"


def test_the_command_compares_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ours, theirs = mixed(tmp_path / "a", 3, sha256="1"), mixed(tmp_path / "b", 2, sha256="2")
    lines = (ours / "answers.jsonl").read_text()
    (ours / "answers.jsonl").write_text(
        lines + answer(9, answer=0, scores={"likelihood": 1.0}).to_line() + "\n"
    )
    compare_command(ours, theirs)
    said = capsys.readouterr().out
    assert [word.strip() for word in row_of(said, "all")] == ["all", "5", "0.800", "0.600", "+0.200"]
    assert [word.strip() for word in row_of(said, "type=a[b]")] == [
        "type=a[b]",
        "4",
        "0.750",
        "0.500",
        "+0.250",
    ]
    assert "frames, likelihood" in said
    assert "1 questions have an answer in one of the two only and are left out" in said
    assert "1 questions have no likelihood and are left out" in said
    assert "warning: the two were asked from different question files" in said
    (ours / "results.json").write_text("{")
    with pytest.raises(SourceError, match=r"a/results\.json: damaged"):
        compare_command(ours, theirs)


def row_of(said: str, first: str) -> list[str]:
    (row,) = [line for line in said.splitlines() if line.strip("\u2502 ").startswith(f"{first} ")]
    return row.strip("\u2502").split("\u2502")[:5]
