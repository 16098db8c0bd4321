"""What a model is asked, and what its answer is taken to mean.

Texts only: the prompt's format around them is the run's own, the one it was trained with.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

__all__ = [
    "LETTERS",
    "VIDEOMME_LEADING",
    "choice_prompt",
    "first_letter",
    "letter_or_text",
    "open_prompt",
    "strip_letter",
]

LETTERS = string.ascii_uppercase

VIDEOMME_LEADING = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
_TRAILING = "Answer with the option's letter from the given choices directly."
_OPEN_TRAILING = "Answer the question using a single word or phrase."

_LETTER_PREFIX = re.compile(r"^\s*\(?([A-Z])\s*[.):]\s+")

# around a letter in an answer
_OPEN = r"[\s\"'(\[]*"
_MARK = r"(?:\s*[\"')\].:,;]|\s+[-\u2013]\s|\s*\n|\s*$)"
_CUE = r"\b(?:answer\s*:?|(?:answer|option|choice)(?:\s+(?:is|was|would\s+be|must\s+be)|\s*:)\s*:?)"
_AND = r"[\"')\]]*\s*(?:\b(?:and|or|nor)\b|[/&+])\s*[\"'(\[]*"
_JOINED = rf"(?:{_AND}|[\"')\]]*\s*,\s*(?:(?:and|or)\b\s*)?[\"'(\[]*)"
_AFTER_LETTER = r"is|isn|are|aren|was|wasn|were|cannot|can['\u2019]t|because|since|as|and|or|nor|but|a|an|the"
_BEFORE_WRONG = r"(?:\bnot|n['\u2019]t|\bneither|\bnor|\bexcept|\bthan)\s+(?:be\s+)?"
_BE = r"(?:is|are|was|were)"
_WRONG = rf"\s+(?:{_BE}\s+(?:not|wrong|incorrect|false)\b|{_BE}n['\u2019]t\b|can(?:no|['\u2019])t\b)"


def choice_prompt(text: str, options: Sequence[str], *, leading: str = "", blank_line: bool = False) -> str:
    r"""Question, options by letter, and what to answer with.

    `"What moves?", ["a dot", "a box"]` -> `"What moves?\nA. a dot\nB. a box\nAnswer with ..."`.

    Args:
        text: The question.
        options: At most 26.
        leading: A line before the question.
        blank_line: Whether one stands before what to answer with, as in Video-MME.

    Source:
        lmms-eval's `videomme` and `nextqa` tasks, which VideoWeave was measured with.
    """
    lines = [leading] if leading else []
    lines.append(text)
    lines += [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    if blank_line:
        lines.append("")
    return "\n".join([*lines, _TRAILING])


def open_prompt(text: str) -> str:
    """Question and how short an answer is wanted."""
    return f"{text}\n{_OPEN_TRAILING}"


def strip_letter(option: str) -> str:
    """`"A. Apples."` -> `"Apples."`; other texts stay."""
    return _LETTER_PREFIX.sub("", option, count=1)


def first_letter(answer: str, options: Sequence[str]) -> int | None:
    """The first capital letter that names an option, wherever it stands: `"Apples"` -> 0.

    Source:
        The paper's protocol for Video-MME (`[ABCD]` in lmms-eval), kept as it is so that figures compare;
        `letter_or_text` reads answers better.
    """
    last = LETTERS[len(options) - 1]
    found = re.search(f"[A-{last}]", answer)
    return LETTERS.index(found[0]) if found else None


def letter_or_text(answer: str, options: Sequence[str]) -> int | None:
    """What an answer chooses, or None where that is not clear.

    In this order: the letter it begins with (`B`, `(B)`, `B.`, `b) a dot`, `**B**`) or that stands after
    "answer is"; the option whose text is the answer; the letter it begins with, without a mark behind; the
    only letter in brackets or after "option"; the only option whose text is in the answer; the only capital
    letter that stands alone. The article of `A box` is no letter, `not B` rules B out, `B or C` is not clear.
    """
    cleaned = answer.replace("*", " ").replace("`", " ").strip()
    cleaned = re.sub(r"\b((?i:option|choice|letter))\s+([A-Z])\b", r"\1 (\2)", cleaned)
    wanted = [_plain(option) for option in options]
    plain = _plain(cleaned)
    letter = _letter(LETTERS[len(options) - 1])
    said = _without_ruled_out(cleaned, letter)
    some = rf"(?P<some>{letter}(?:{_JOINED}{letter})*)"
    begins = None if _repeats_choices(plain, wanted) else re.match(rf"{_OPEN}{some}(?P<mark>{_MARK})?", said)
    named = [found["some"] for found in re.finditer(rf"{_CUE}{_OPEN}{some}", said, re.I)]
    if begins and begins["mark"] is not None:
        named.append(begins["some"])
    if named:
        return _only(named, letter)
    if wanted.count(plain) == 1:
        return wanted.index(plain)
    if begins and begins["some"][0].isupper():
        return _only([begins["some"]], letter)
    if bracketed := re.findall(rf"[(\[]({letter})[)\]]", said):
        return _only(bracketed, letter)
    if held := _held(plain, wanted):
        return held[0] if len(held) == 1 else None
    return _only([found for found in re.findall(letter, said) if found.isupper()], letter)


def _letter(last: str) -> str:
    """Pattern of a letter up to `last` that stands for itself: `A` and `I` before a word are words, too."""
    any_letter = rf"(?<![\w-])(?<!\w['\u2019])(?=[A-{last}a-{last.lower()}])[A-Za-z](?![\w]|['\u2019-]\w)"
    return rf"{any_letter}(?:(?<![AaIi])|(?!\s+(?!(?:{_AFTER_LETTER})\b)[\"'(]*\w))"


def _without_ruled_out(text: str, letter: str) -> str:
    """`"Not A, but B"` -> `" , but B"`, `"Option (A) is wrong"` -> `" "`."""
    some = rf"{letter}(?:{_AND}{letter})*"
    prefix = r"(?:the\s+)?(?:(?:answer|option|choice|letter)\s+)?"
    text = re.sub(rf"{_BEFORE_WRONG}{prefix}{_OPEN}{some}[\"')\]]*", " ", text, flags=re.I)
    return re.sub(rf"{prefix}[\"'(\[]*{some}[\"')\]]*{_WRONG}", " ", text, flags=re.I)


def _only(found: Sequence[str], letter: str) -> int | None:
    """The one letter that is in all of these, if there is one: `["B", "b"]` -> 1, `["A or B"]` -> None."""
    letters = {each.upper() for some in found for each in re.findall(letter, some)}
    return LETTERS.index(letters.pop()) if len(letters) == 1 else None


def _repeats_choices(plain: str, wanted: Sequence[str]) -> bool:
    """Whether more than one option stands in the answer with its letter."""
    labelled = zip(LETTERS.lower(), wanted, strict=False)
    return sum(_holds(plain, f"{letter} {text}") for letter, text in labelled if text) > 1


def _held(plain: str, wanted: Sequence[str]) -> list[int]:
    """Options whose text is in the answer, and not after `not`."""
    held = [index for index, text in enumerate(wanted) if text and _holds(plain, text)]
    # "blue" is held where "light blue" is: the longer one is meant
    held = [i for i in held if not any(i != j and _holds(wanted[j], wanted[i]) for j in held)]
    return [i for i in held if not any(_holds(plain, f"{no} {wanted[i]}") for no in ("not", "not be"))]


def _plain(text: str) -> str:
    """Lower case, letters and digits of words with one space between them; `n't` is `not`."""
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"n['\u2019]t\b", " not", text.lower())))


def _holds(text: str, part: str) -> bool:
    return f" {part} " in f" {text} "
