"""NExT-QA: multiple choice (five options), and open ended as VideoWeave's scripts asked it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weave_train.evaluate.asking_text import choice_prompt, open_prompt
from weave_train.evaluate.question import Question, QuestionSet
from weave_train.evaluate.tasks.reading import TaskFiles, collect, option_index, text_field

__all__ = ["read_nextqa", "read_nextqa_open"]

_CHOICE_FILES = ("val.csv", "test.csv", "nextqa/val.csv", "nextqa/test.csv", "MC/val.csv", "MC/test.csv")
_OPEN_FILES = ("OE/val.csv", "OE/test.csv", "val.csv", "test.csv", "nextoe/val.csv", "nextoe/test.csv")
_MAPS = ("map_vid_vidorID.json", "nextqa/map_vid_vidorID.json")
_COLUMNS = ("video", "question", "answer", "qid", "type")
_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


def read_nextqa(files: TaskFiles) -> QuestionSet:
    """Multiple choice: `answer` is the number of an option in a0 to a4."""
    folders = _folders(files)
    key = files.need(_CHOICE_FILES)
    columns = (*_COLUMNS, "a0", "a1", "a2", "a3", "a4")

    def make(row_id: str, row: Any) -> Question:
        text = _asked(row)
        options = tuple(text_field(row, f"a{number}") for number in range(5))
        return Question(
            id=row_id,
            video=text_field(row, "video"),
            text=text,
            prompt=choice_prompt(text, options),
            options=options,
            answer_index=option_index(int(row["answer"]), options),
            tags=_tags(row),
            folder=folders.get(row["video"], ""),
        )

    return collect(files, ((_row_id(row), row) for row in files.csv(key, columns)), make)


def read_nextqa_open(files: TaskFiles) -> QuestionSet:
    """Open ended: `answer` is text, `additional_ref_answer` another one where it is given."""
    folders = _folders(files)
    key = files.need(_OPEN_FILES)

    def make(row_id: str, row: Any) -> Question:
        text = _asked(row)
        more = (row.get("additional_ref_answer") or "").strip()
        return Question(
            id=row_id,
            video=text_field(row, "video"),
            text=text,
            prompt=open_prompt(text),
            references=(text_field(row, "answer"), *([more] if more else [])),
            style="open",
            tags=_tags(row),
            folder=folders.get(row["video"], ""),
        )

    return collect(files, ((_row_id(row), row) for row in files.csv(key, _COLUMNS)), make)


def _folders(files: TaskFiles) -> Mapping[str, str]:
    """Video -> `0101`, the folder it lies in where videos are kept as in VidOR."""
    key = files.find(_MAPS)
    paths = {} if key is None else files.json_object(key)
    for video, path in paths.items():
        if not isinstance(path, str):
            raise files.misshapen(str(key), f"{video!r} is mapped to {path!r}, not to a path")
    return {video: path.rpartition("/")[0] for video, path in paths.items()}


def _row_id(row: Mapping[str, str]) -> str:
    return f"{row['video']}_{row['qid']}"


def _asked(row: Mapping[str, str]) -> str:
    """`"how do they play"` -> `"How do they play?"`, as they are asked in lmms-eval."""
    text = text_field(row, "question").rstrip("?. ")
    return f"{text[:1].upper()}{text[1:]}?"


def _tags(row: Mapping[str, str]) -> dict[str, str]:
    kind = text_field(row, "type")
    return {"type": kind, "kind": _KINDS.get(kind[:1], "other")}
