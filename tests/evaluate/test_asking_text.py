"""What is asked, and what messy answers are taken to mean."""

from __future__ import annotations

import pytest

from weave_train.evaluate.answering import guess
from weave_train.evaluate.asking_text import choice_prompt, first_letter, letter_or_text, strip_letter
from weave_train.evaluate.question import Question

OPTIONS = ["a red dot", "a blue box", "blue", "Nothing moves."]


def test_a_choice_is_asked_as_the_paper_was_measured() -> None:
    assert choice_prompt("What moves?", ["a dot", "a box"], leading="Choose.") == (
        "Choose.\nWhat moves?\nA. a dot\nB. a box\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert choice_prompt("What moves?", ["a dot", "a box"]).startswith("What moves?\nA. ")


@pytest.mark.parametrize(
    ("published", "plain"),
    [
        ("A. Apples.", "Apples."),
        ("(B) pears", "pears"),
        ("C: plums", "plums"),
        ("A dot", "A dot"),
        ("3", "3"),
    ],
)
def test_letters_before_options_are_taken_off(published: str, plain: str) -> None:
    assert strip_letter(published) == plain


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("B", 1),
        ("b", 1),
        (" (B) ", 1),
        ("B.", 1),
        ("B: a blue box", 1),
        ("b) a blue box", 1),
        ("**B**", 1),
        ("B, because the box is blue", 1),
        ('"C"', 2),
        ("[D]", 3),
        ("The answer is C.", 2),
        ("Answer: (D)", 3),
        ("The best option is b", 1),
        ("a blue box", 1),
        ("A blue box.", 1),
        ("A red dot moves to the left", 0),
        ("Blue", 2),
        ("I think it is a blue box that moves.", 1),
        ("nothing moves", 3),
        ("It must be (C), I think", 2),
        ("I would choose C here", 2),
        ("", None),
        ("I don't know", None),
        ("A dog runs", None),
        ("either a red dot or a blue box", None),
        ("E", None),
        ("Both (A) and (B)", None),
        ("Because", None),
        ("B or C", None),
        ("'B'", 1),
        ("b - a blue box", 1),
        ("B because the box is blue", 1),
        ("Option B", 1),
        ("the answer is A and B", None),
        ("Answer: A or B", None),
        ("B, C", None),
        ("It is not A", None),
        ("It can't be a blue box", None),
        ("Not A, but B", 1),
        ("It is B, not A", 1),
        ("The answer isn't C", None),
        ("Option A is wrong, B is right", 1),
        ("A and B are wrong, so C", 2),
        ("Option A shows a red dot, option B shows nothing", None),
        ("B. Option A is there to distract", 1),
        ("B is tempting, but the answer is C", 2),
        ("A. a red dot\nB. a blue box\nC. blue\nD. Nothing moves.", None),
        ("A. a red dot B. a blue box. The answer is B", 1),
    ],
)
def test_an_answer_chooses_what_it_says(answer: str, chosen: int | None) -> None:
    assert letter_or_text(answer, OPTIONS) == chosen


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("The answer is a box.", 1),
        ("Answer: a box", 1),
        ("Answer: A box", 1),
        ("the best option is a ring", 2),
        ("A TV.", 3),
        ("A 2-year-old looks at it", None),
        ("Answer: A dog", None),
        ("A man with a box", 1),
        ("Answer: A", 0),
        ("The answer is A because it moves", 0),
        ("The answer is (a)", 0),
        ("the answer is a", 0),
        ("A is right", 0),
        ("a", 0),
        ("a) a dot", 0),
        ("A, because it moves", 0),
    ],
)
def test_an_article_is_no_letter(answer: str, chosen: int | None) -> None:
    assert letter_or_text(answer, ["a dot", "a box", "a ring", "a TV"]) == chosen


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [("C", 2), ("Apples", 0), ("the answer is (D)", 3), ("E", None), ("", None), ("Because", 1)],
)
def test_the_papers_protocol_takes_the_first_letter_anywhere(answer: str, chosen: int | None) -> None:
    assert first_letter(answer, OPTIONS) == chosen


def test_an_option_of_the_same_text_as_the_right_one_is_right() -> None:
    question = Question("q", None, "?", "?", ("x", "y", "x"), answer_index=0)
    right = [seed for seed in range(40) if guess(question, seed=seed).scores["generated"] == 1.0]
    chosen = {guess(question, seed=seed).parsed for seed in right}
    assert chosen == {0, 2}
