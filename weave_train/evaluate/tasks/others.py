"""ActivityNet-QA, TempCompass, EgoSchema, MLVU, and captions of a val split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from weave_data.errors import ConfigError, SourceError
from weave_data.json_rows import BrokenRow
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

_TEMPCOMPASS_KINDS = ("multi-choice", "yes_no", "caption_matching")

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

    return _matched(files, key, answers, collect(files, rows_by_id(files.rows(key), "question_id"), make))


def _matched(files: TaskFiles, key: str, answers: Mapping[str, Any], found: QuestionSet) -> QuestionSet:
    """The same with answers that belong to no question counted.

    Raises:
        SourceError: None belongs to one.
    """
    ids = {question.id for question in found.questions} | {row.id for row in found.lost}
    matched = answers.keys() & ids
    if not matched:
        raise _no_match(files, key, answers, len(ids))
    unmatched = len(answers) - len(matched)
    return replace(found, left_out={"answers without a question": unmatched} if unmatched else {})


def _no_match(files: TaskFiles, key: str, answers: Mapping[str, Any], num_questions: int) -> SourceError:
    return SourceError(
        f"{files.root.uri}/{key}: none of the {len(answers)} answers is to one of its {num_questions} "
        "questions; give questions and answers of the same release"
    )


def read_captions(files: TaskFiles) -> QuestionSet:
    """JSON lines `{"id", "video", "captions": [...]}` (or `caption`): a caption is written and compared.

    Or else the held-out split that `weave-data export --format captions` has left.

    Raises:
        ConfigError: There is neither, or several splits are there.
    """
    names = ("captions.jsonl", "val_captions.jsonl")
    key = files.find(names) or _exported_split(files) or files.need(names)

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


def _exported_split(files: TaskFiles) -> str | None:
    keys = [info.key for info in files.root.list() if info.key.endswith("-val.json") and "/" not in info.key]
    if len(keys) > 1:
        raise ConfigError(
            f"data: {files.root.uri} holds the splits {', '.join(sorted(keys))}; give a folder with one",
            origin="command line",
        )
    return keys[0] if keys else None


def read_tempcompass(files: TaskFiles) -> QuestionSet:
    """Multiple choice, yes or no, and caption matching; captioning needs a judge and is left out.

    Those whose file is not there are `missing_kinds`.
    """
    kinds = {
        kind: key
        for kind in _TEMPCOMPASS_KINDS
        if (key := files.find((f"questions/{kind}.json", f"{kind}.json"))) is not None
    }
    if not kinds:
        files.need(("questions/multi-choice.json", "multi-choice.json"))
    missing = tuple(kind for kind in _TEMPCOMPASS_KINDS if kind not in kinds)
    return replace(collect(files, _tempcompass_rows(files, kinds), _tempcompass), missing_kinds=missing)


def _tempcompass_rows(files: TaskFiles, kinds: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for kind, key in kinds.items():
        for video, dimensions in files.json_object(key).items():
            if not isinstance(dimensions, dict) or not all(
                isinstance(of, list) for of in dimensions.values()
            ):
                raise files.misshapen(key, f"video {video!r} holds no lists of questions by dimension")
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
    answers = files.json_object(files.need(("subset_answers.json", "egoschema/subset_answers.json")))
    key = files.need(("questions.json", "egoschema/questions.json"))

    def make(row_id: str, row: Any) -> Question:
        text = text_field(row, "question")
        options = tuple(text_field(row, f"option {number}") for number in range(5))
        index = option_index(int(answers[row_id]), options)
        return Question(row_id, row_id, text, choice_prompt(text, options), options, index)

    rows = list(rows_by_id(files.rows(key), "q_uid"))
    unanswered = sum(not isinstance(row, BrokenRow) and name not in answers for name, row in rows)
    # a broken row may be one with an answer
    asked = [(name, row) for name, row in rows if name in answers or isinstance(row, BrokenRow)]
    if not asked:
        raise _no_match(files, key, answers, len(rows))
    found = _matched(files, key, answers, collect(files, iter(asked), make))
    left_out = {"questions without a published answer": unanswered} if unanswered else {}
    return replace(found, left_out={**found.left_out, **left_out})


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
