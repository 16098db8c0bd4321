"""One's own questions: `questions.jsonl`, media beside it.

    {"id": "q1", "video": "videos/a.mp4", "question": "What came first?",
     "options": ["a red dot", "a blue box"], "answer": 0, "tags": {"type": "order"}}

`answer` is an option's number, letter or text. Without `options` the question is open and `answer` a text or
a list of texts. `video` may be a folder of frames, one image, or null; `start` and `end` in seconds are a
part of it. `style: texts` shows no options and scores each one's text as the answer.
"""

from __future__ import annotations

from typing import Any

from weave_train.evaluate.asking_text import choice_prompt, open_prompt
from weave_train.evaluate.question import Question, QuestionSet, Span
from weave_train.evaluate.tasks.reading import (
    BadRowError,
    TaskFiles,
    collect,
    option_index,
    rows_by_id,
    text_field,
)

__all__ = ["read_plain"]

_KNOWN = frozenset(
    {"id", "video", "question", "options", "answer", "tags", "start", "end", "style", "prompt"}
)


def read_plain(files: TaskFiles) -> QuestionSet:
    """Questions of `questions.jsonl` (or a JSON array of the same rows in `questions.json`)."""
    key = files.need(("questions.jsonl", "questions.json"))
    return collect(files, rows_by_id(files.rows(key), "id"), _question)


def _question(row_id: str, row: Any) -> Question:
    unknown = sorted(set(row) - _KNOWN)
    if unknown:
        raise BadRowError(f"unknown field {unknown[0]!r} (known: {', '.join(sorted(_KNOWN))})")
    text = text_field(row, "question")
    options = tuple(str(option).strip() for option in row.get("options") or ())
    style = row.get("style", "letters" if options else "open")
    if style not in ("letters", "texts", "open") or (style == "open") != (not options):
        raise BadRowError(f"style {style!r} with {len(options)} options")
    answer = row["answer"]
    given = [answer] if isinstance(answer, str) or options else list(answer)
    prompt = {"letters": choice_prompt(text, options), "texts": text, "open": open_prompt(text)}[style]
    video = row.get("video")
    return Question(
        id=row_id,
        video=None if video is None else text_field(row, "video"),
        text=text,
        prompt=str(row.get("prompt", prompt)),
        options=options,
        answer_index=option_index(answer, options) if options else None,
        references=() if options else tuple(str(reference).strip() for reference in given),
        style=style,
        tags={str(name): str(value) for name, value in (row.get("tags") or {}).items()},
        span=_span(row),
    )


def _span(row: Any) -> Span | None:
    if row.get("start") is None and row.get("end") is None:
        return None
    start, stop = float(row.get("start") or 0.0), float(row["end"])
    if not 0 <= start < stop:
        raise BadRowError(f"start {start} and end {stop}: no part of a video")
    return Span(start, stop)
