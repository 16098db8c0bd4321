"""Video-MME: 900 videos of three lengths, three questions each, as the paper was measured."""

from __future__ import annotations

from typing import Any

from weave_train.evaluate.asking_text import VIDEOMME_LEADING, choice_prompt, strip_letter
from weave_train.evaluate.question import Question, QuestionSet
from weave_train.evaluate.tasks.reading import BadRowError, TaskFiles, collect, option_index, text_field

__all__ = ["read_videomme"]

_FILES = (
    "videomme/test-00000-of-00001.parquet",
    "test-00000-of-00001.parquet",
    "videomme.parquet",
    "test.parquet",
)
_COLUMNS = (
    "duration",
    "domain",
    "sub_category",
    "videoID",
    "question_id",
    "task_type",
    "question",
    "options",
    "answer",
)


def read_videomme(files: TaskFiles) -> QuestionSet:
    """Questions of the published Parquet file.

    Source:
        VideoWeave's figures: lmms-eval's `videomme` without subtitles. The prompt speaks of subtitles there,
        too, and is kept.
    """
    key = files.need(_FILES)
    rows = ((str(row["question_id"]), row) for row in files.parquet(key, _COLUMNS))
    return collect(files, rows, _question)


def _question(row_id: str, row: Any) -> Question:
    published = [str(option) for option in row["options"]]
    if len(published) != 4:
        raise BadRowError(f"{len(published)} options; Video-MME has 4")
    options = tuple(strip_letter(option) for option in published)
    text = text_field(row, "question")
    tags = {name: str(row[name]) for name in ("duration", "domain", "sub_category", "task_type")}
    return Question(
        id=row_id,
        video=text_field(row, "videoID"),
        text=text,
        prompt=choice_prompt(text, options, leading=VIDEOMME_LEADING, blank_line=True),
        options=options,
        answer_index=option_index(text_field(row, "answer"), ("A", "B", "C", "D")),
        tags=tags,
    )
