"""ActivityNet-QA, TempCompass, EgoSchema, MLVU, and captions of a val split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from weave_train.evaluate.asking_text import choice_prompt, open_prompt, strip_letter
from weave_train.evaluate.question import Question, QuestionSet
from weave_train.evaluate.tasks.reading import (
    BadRowError,
    TaskFiles,
    collect,
    option_index,
    rows_by_id,
    text_field,
)

__all__ = ["read_activitynet_qa", "read_captions", "read_egoschema", "read_mlvu", "read_tempcompass"]

CAPTION_PROMPT = "Describe what is happening in the video."

_ACTIVITYNET_TYPES = (
    "motion",
    "spatial relationship",
    "temporal relationship",
    "yes or no",
    "colour",
    "object",
    "location",
    "number",
    "other",
)


def read_activitynet_qa(files: TaskFiles) -> QuestionSet:
    """Questions and answers lie in two files; scored by exact match.

    Differs from published figures, which are mostly a language model's judgement: they don't compare.
    """
    answers: dict[str, Any] = {}
    for row in files.rows(files.need(("test_a.json", "activitynet_qa/test_a.json"))):
        if isinstance(row, dict) and "question_id" in row:
            answers[str(row["question_id"])] = row
    key = files.need(("test_q.json", "activitynet_qa/test_q.json"))

    def make(row_id: str, row: Any) -> Question:
        answer = answers.get(row_id)
        if answer is None:
            raise BadRowError("no answer has this question_id")
        text = text_field(row, "question").rstrip("? ") + "?"
        kind = int(answer["type"])
        name = _ACTIVITYNET_TYPES[kind] if 0 <= kind < len(_ACTIVITYNET_TYPES) else str(kind)
        return Question(
            id=row_id,
            video=f"v_{text_field(row, 'video_name')}",
            text=text,
            prompt=open_prompt(text),
            references=(text_field(answer, "answer"),),
            style="open",
            tags={"type": name},
        )

    return collect(files, rows_by_id(files.rows(key), "question_id"), make)


def read_captions(files: TaskFiles) -> QuestionSet:
    """JSON lines `{"id", "video", "captions": [...]}` (or `caption`): a caption is written and compared.

    Or a held-out split, as `weave-data export --format captions` leaves it.
    """
    found = [info.key for info in files.root.list() if info.key.endswith("-val.json")]
    exported = [key for key in found if "/" not in key]
    key = exported[0] if len(exported) == 1 else files.need(("captions.jsonl", "val_captions.jsonl"))

    def make(row_id: str, row: Any) -> Question:
        given = row["captions"] if "captions" in row else [row["caption"]]
        references = tuple(str(text).strip() for text in given if str(text).strip())
        if isinstance(given, str) or not references:
            raise BadRowError(f"captions {given!r}: give a list of texts")
        prompt = str(row.get("prompt", CAPTION_PROMPT))
        tags = {str(name): str(value) for name, value in row.get("tags", {}).items()}
        video = text_field(row, "video")
        return Question(row_id, video, prompt, prompt, references=references, style="open", tags=tags)

    return collect(files, rows_by_id(files.rows(key), "id"), make)


def read_tempcompass(files: TaskFiles) -> QuestionSet:
    """Multiple choice, yes or no, and caption matching; captioning needs a judge and is left out."""
    kinds = {
        kind: key
        for kind in ("multi-choice", "yes_no", "caption_matching")
        if (key := files.find((f"questions/{kind}.json", f"{kind}.json"))) is not None
    }
    if not kinds:
        files.need(("questions/multi-choice.json", "multi-choice.json"))
    return collect(files, _tempcompass_rows(files, kinds), _tempcompass)


def _tempcompass_rows(files: TaskFiles, kinds: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for kind, key in kinds.items():
        for video, dimensions in files.json(key).items():
            for dimension, rows in dimensions.items():
                for number, row in enumerate(rows):
                    yield f"{kind}-{video}-{dimension}-{number}", (kind, video, dimension, row)


def _tempcompass(row_id: str, found: tuple[str, str, str, Any]) -> Question:
    kind, video, dimension, row = found
    published, answer = text_field(row, "question"), text_field(row, "answer")
    options: tuple[str, ...]
    if kind == "yes_no":
        text, options = published, ("yes", "no")
        answer = answer.lower()
    else:
        text, *lines = [line.strip() for line in published.splitlines() if line.strip()]
        options = tuple(_without_label(line) for line in lines)
        answer = _without_label(answer)
    return Question(
        id=row_id,
        video=video,
        text=text,
        prompt=choice_prompt(text, options),
        options=options,
        answer_index=option_index(answer, options),
        tags={"kind": kind, "dimension": dimension},
    )


def _without_label(line: str) -> str:
    """`"A. left"`, `"Option 2: left"`, `"Sentence B: left"` -> `"left"`."""
    return re.sub(r"^(?:Option|Sentence|Caption)\s+[A-Z0-9]+\s*:\s*", "", strip_letter(line)).strip()


def read_egoschema(files: TaskFiles) -> QuestionSet:
    """Questions whose answers are in `subset_answers.json`; the others can't be scored and are left out."""
    answers = files.json(files.need(("subset_answers.json", "egoschema/subset_answers.json")))
    key = files.need(("questions.json", "egoschema/questions.json"))

    def make(row_id: str, row: Any) -> Question:
        text = text_field(row, "question")
        options = tuple(text_field(row, f"option {number}") for number in range(5))
        index = option_index(int(answers[row_id]), options)
        return Question(row_id, row_id, text, choice_prompt(text, options), options, index)

    rows = ((name, row) for name, row in rows_by_id(files.rows(key), "q_uid") if name in answers)
    return collect(files, rows, make)


def read_mlvu(files: TaskFiles) -> QuestionSet:
    """Multiple choice over long videos: one JSON file, or `json/*.json`."""
    keys = [info.key for info in files.root.list("json/") if info.key.endswith(".json")]
    keys = keys or [files.need(("mlvu.json", "mlvu_dev.json", "test.json"))]

    def make(row_id: str, row: Any) -> Question:
        text = text_field(row, "question")
        options = tuple(str(option).strip() for option in row["candidates"])
        index = option_index(str(row["answer"]).strip(), options)
        return Question(
            id=row_id,
            video=text_field(row, "video"),
            text=text,
            prompt=choice_prompt(text, options),
            options=options,
            answer_index=index,
            tags={"type": text_field(row, "question_type")},
        )

    def rows() -> Iterator[tuple[str, Any]]:
        for key in keys:
            name = key.rpartition("/")[2].removesuffix(".json")
            for number, row in enumerate(files.rows(key)):
                yield f"{name}-{number}", row

    return collect(files, rows(), make)
