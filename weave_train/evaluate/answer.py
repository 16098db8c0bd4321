"""What a model answered to a question, and how right that was: a line of `answers.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from weave_data.errors import ConfigError, SourceError

__all__ = ["Answer", "Mode", "read_answers"]

Mode = Literal["frames", "blind", "center", "random"]
"""What a model sees: T frames, nothing, the middle frame; `random` is a guess without a model."""


@dataclass(frozen=True)
class Answer:
    """One question in one mode.

    Attributes:
        id: Of the question.
        mode: See `Mode`.
        video: As published; what a bootstrap draws.
        answer: Number of the right option; None where the question is open.
        references: Right answers of an open question.
        generated: What the model wrote.
        parsed: The option that was taken to mean; None where that is not clear.
        log_probs: Of each option, in nats, summed over its `num_tokens` tokens.
        num_tokens: Likewise.
        likeliest: The option with the highest sum, the first of equals.
        scores: By metric, 0 to 1 (CIDEr: 0 to 10).
        tags: Of the question.
        problem: Why the question was not asked, `reason: detail`; everything above is None then.
    """

    id: str
    mode: Mode
    video: str | None
    answer: int | None = None
    references: tuple[str, ...] | None = None
    generated: str | None = None
    parsed: int | None = None
    log_probs: tuple[float, ...] | None = None
    num_tokens: tuple[int, ...] | None = None
    likeliest: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None

    @property
    def reason(self) -> str | None:
        """What is counted of `problem`."""
        return None if self.problem is None else self.problem.partition(":")[0]

    def to_line(self) -> str:
        """JSON without a line break: the same answer gives the same bytes."""
        return json.dumps(asdict(self), ensure_ascii=True, sort_keys=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Answer:
        """Inverse of `to_line`, parsed."""
        tuples = {
            name: None if values.get(name) is None else tuple(values[name])
            for name in ("references", "log_probs", "num_tokens")
        }
        return cls(**{**values, **tuples})


def read_answers(folder: Path | str) -> Sequence[Answer]:
    """All answers of a finished task, in the order of its questions, mode by mode.

    Args:
        folder: `TO/<task>`.

    Raises:
        ConfigError: It is not there, or not finished.
        SourceError: A line is no answer.
    """
    path = Path(folder) / "answers.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; give the folder of a task that `weave-train evaluate` finished"
        ) from error
    answers = []
    for number, line in enumerate(lines, start=1):
        try:
            answers.append(Answer.from_json(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise SourceError(f"{path}:{number}: no answer ({error}); evaluate again") from error
    return answers
