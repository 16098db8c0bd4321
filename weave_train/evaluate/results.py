"""Answers become figures: per mode, over everything and by tag, each with an interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from weave_train.evaluate.answer import Answer
from weave_train.evaluate.intervals import mean_interval

__all__ = ["group_of", "lost_fraction", "summarise"]


def group_of(answer: Answer) -> str:
    """What a bootstrap draws: the video, or the question where there is none."""
    return answer.video if answer.video is not None else f"question {answer.id}"


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Figures of one mode.

    Args:
        answers: Of all questions, lost ones among them.

    Returns:
        `count` of answered questions, `lost` by reason, `unparsed` written choices that name no option (they
        are wrong in `generated`), `scores` by metric, `by` tag and value the same.
    """
    answered = [answer for answer in answers if answer.problem is None]
    by_tag: dict[str, dict[str, list[Answer]]] = {}
    for answer in answered:
        for tag, value in answer.tags.items():
            by_tag.setdefault(tag, {}).setdefault(value, []).append(answer)
    return {
        "count": len(answered),
        "lost": dict(sorted(Counter(str(a.reason) for a in answers if a.problem is not None).items())),
        "unparsed": sum(_is_unparsed(answer) for answer in answered),
        "scores": _scores(answered),
        "by": {
            tag: {
                value: {"count": len(of_value), "scores": _scores(of_value)}
                for value, of_value in sorted(values.items())
            }
            for tag, values in sorted(by_tag.items())
        },
    }


def lost_fraction(answers: Sequence[Answer], num_lost_rows: int) -> float:
    """Share of rows without an answer, of all that the question file has."""
    total = len(answers) + num_lost_rows
    lost = sum(answer.problem is not None for answer in answers) + num_lost_rows
    return lost / total if total else 0.0


def _is_unparsed(answer: Answer) -> bool:
    return answer.answer is not None and answer.generated is not None and answer.parsed is None


def _scores(answers: Sequence[Answer]) -> dict[str, Mapping[str, float]]:
    names = dict.fromkeys(name for answer in answers for name in answer.scores)
    found: dict[str, Mapping[str, float]] = {}
    for name in names:
        scored = [answer for answer in answers if name in answer.scores]
        interval = mean_interval([a.scores[name] for a in scored], [group_of(a) for a in scored])
        found[name] = interval.to_json()
    return found
