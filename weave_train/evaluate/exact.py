"""Open answers against their references, word for word."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["exact_match", "plain_words"]

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    name: str(value)
    for value, name in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}


def plain_words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles, small numbers as digits: `"The two."` -> `["2"]`.

    Source:
        The normalisation of VQA's evaluation, without its list of contractions: apostrophes are dropped.
    """
    words = re.findall(r"\d+(?:\.\d+)?|[^\W_]+", text.lower().replace("'", "").replace("\u2019", ""))
    return [_NUMBERS.get(word, word) for word in words if word not in _ARTICLES]


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1.0 where the answer's words are those of a reference, else 0.0."""
    words = plain_words(answer)
    return float(any(words == plain_words(reference) for reference in references))
