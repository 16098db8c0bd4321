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

    In this order: a letter that stands for itself at the beginning (`B`, `(B)`, `B.`, `b) a dot`, `**B**`);
    the letter after "answer is", "answer:" or "option"; the option whose text is the answer; the only letter
    in brackets; the only option whose text is in the answer; the only capital letter that stands alone.
    """
    cleaned = answer.replace("*", " ").replace("`", " ").strip()
    last = LETTERS[len(options) - 1]
    either = f"[A-{last}a-{last.lower()}]"
    if found := re.match(rf"[\s\"'(\[]*({either})(?:[\s\"')\].:,;-]|$)", cleaned):
        letter = found[1]
        # "A" and "a" may be an article: "A dot moves." chooses nothing by its first word
        is_article = letter in "Aa" and re.match(r"[Aa]\s+[a-z]", cleaned)
        if not is_article and (letter.isupper() or not re.match(r"[a-z]\s+\w", cleaned)):
            return LETTERS.index(letter.upper())
    if found := re.search(
        rf"(?:answer|option|choice)(?:\s+is)?\s*:?\s*[\"'(\[]*({either})(?![A-Za-z])", cleaned, re.I
    ):
        return LETTERS.index(found[1].upper())
    wanted = [_plain(option) for option in options]
    plain = _plain(cleaned)
    if wanted.count(plain) == 1:
        return wanted.index(plain)
    bracketed = {found.upper() for found in re.findall(rf"[(\[]({either})[)\]]", cleaned)}
    if len(bracketed) == 1:
        return LETTERS.index(bracketed.pop())
    held = [index for index, text in enumerate(wanted) if text and _holds(plain, text)]
    # "blue" is held where "light blue" is: the longer one is meant
    held = [i for i in held if not any(i != j and _holds(wanted[j], wanted[i]) for j in held)]
    if len(held) == 1:
        return held[0]
    alone = set(re.findall(rf"(?<![A-Za-z'])([A-{last}])(?![A-Za-z'])", cleaned))
    if len(alone) == 1 and not (held or re.search(r"(?<![A-Za-z])A\s+[a-z]", cleaned)):
        return LETTERS.index(alone.pop())
    return None


def _plain(text: str) -> str:
    """Lower case, letters and digits of words with one space between them."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def _holds(text: str, part: str) -> bool:
    return f" {part} " in f" {text} "
