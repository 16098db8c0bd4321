"""Who could answer without looking: what questions give away, measured on the questions alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TypeBalance", "measure_balance"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TypeBalance:
    """Shares of one type's questions that are right without looking.

    Attributes:
        type: Of the questions.
        count: Questions.
        chance: Mean of one over the number of options.
        best_place: Always the same place, the best one.
        best_text: Always the same text where it is an option, the best one; elsewhere chance.
        best_informed: What somebody scores who knows how often each option is right, given the question's
            text and its options: no blind model can do better.
        texts: How often each text is the answer.
    """

    type: str
    count: int
    chance: float
    best_place: float
    best_text: float
    best_informed: float
    texts: Mapping[str, int]


def measure_balance(rows: Iterable[Row]) -> list[TypeBalance]:
    """Measure each type of question, in order of first appearance.

    Args:
        rows: Of `questions.jsonl`.
    """
    by_type: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_type[row["tags"]["type"]].append(row)
    return [_measure(kind, found) for kind, found in by_type.items()]


def _measure(kind: str, rows: Sequence[Row]) -> TypeBalance:
    chance = sum(1.0 / len(row["options"]) for row in rows) / len(rows)
    answers = [row["options"][row["answer"]] for row in rows]
    texts = {text for row in rows for text in row["options"]}
    informed: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row, answer in zip(rows, answers, strict=True):
        informed[row["question"], *sorted(row["options"])][answer] += 1
    return TypeBalance(
        kind,
        len(rows),
        chance,
        max(Counter(row["answer"] for row in rows).values()) / len(rows),
        max(_share_of_text(text, rows, answers) for text in texts),
        sum(max(counts.values()) for counts in informed.values()) / len(rows),
        Counter(answers),
    )


def _share_of_text(text: str, rows: Sequence[Row], answers: Sequence[str]) -> float:
    scores = [
        float(answer == text) if text in row["options"] else 1.0 / len(row["options"])
        for row, answer in zip(rows, answers, strict=True)
    ]
    return sum(scores) / len(scores)
