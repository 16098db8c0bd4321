"""A question about a video, as every task's reader gives it, whatever file it was published in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = [
    "ASKED_AGAIN",
    "CIRCUMSTANCE",
    "LostQuestion",
    "LostQuestionError",
    "Question",
    "QuestionSet",
    "Span",
    "Style",
]

CIRCUMSTANCE = "lost-video"
"""Reason of a question whose video took too long to decode, or whose decoder was killed."""

ASKED_AGAIN = frozenset({CIRCUMSTANCE, "missing-video", "ambiguous-video"})
"""Reasons that may be gone when an evaluation is started again: its questions are asked again then."""

Style = Literal["letters", "texts", "open"]
"""How a question is put and scored.

letters  options are listed as A, B, ... and a letter is asked for
texts    options are not shown; each one's text is scored as the answer
open     there are none; the answer is compared with references
"""


@dataclass(frozen=True)
class Span:
    """The part [start, stop) of a video that is asked about, in seconds after its first frame."""

    start_seconds: float
    stop_seconds: float


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: Unique within its task.
        video: Name of its video below the task's data, often without suffix; None for text alone.
        text: As published.
        prompt: What the model is asked: built by the task from text and options.
        options: In published order; empty where the question is open.
        answer_index: Of the right option; None where the question is open.
        references: Right answers of an open question.
        style: See `Style`.
        tags: What scores are told apart by: `{"duration": "short"}`.
        span: None asks about the whole video.
        folder: Where the published data set keeps its video; looked at first.
        is_frames: Its video is published as a folder of frames.
        frames_hz: Of such a folder: frames per second, for `span`.
    """

    id: str
    video: str | None
    text: str
    prompt: str
    options: tuple[str, ...] = ()
    answer_index: int | None = None
    references: tuple[str, ...] = ()
    style: Style = "letters"
    tags: Mapping[str, str] = field(default_factory=dict)
    span: Span | None = None
    folder: str = ""
    is_frames: bool = False
    frames_hz: float | None = None


@dataclass(frozen=True)
class LostQuestion:
    """A row that can't be asked: `reason` is counted, `detail` listed; `place` questions stand before it."""

    id: str
    reason: str
    detail: str
    place: int = 0


class LostQuestionError(Exception):
    """A question that can't be asked; `reason` is counted, the text is listed."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one task in published order, and rows that are none.

    Attributes:
        questions: To ask.
        lost: Rows that can't be asked.
        sha256: Of the files they are in, together.
        files: sha256 of each, by its key below `--data`.
        missing_kinds: Parts of the published task whose files are not there.
        left_out: What the published files hold beside questions with answers, counted: it is not asked.
    """

    questions: tuple[Question, ...]
    lost: tuple[LostQuestion, ...]
    sha256: str
    missing_kinds: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def first(self, limit: int | None) -> QuestionSet:
        """The first so many questions, and the rows that were lost before the last of them."""
        if limit is None:
            return self
        lost = tuple(row for row in self.lost if row.place < limit)
        return replace(self, questions=self.questions[:limit], lost=lost)
