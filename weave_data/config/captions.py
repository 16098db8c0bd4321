"""What samples say: replaced captions, prompts to choose from, questions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from weave_data.config.loading import StrictModel

__all__ = [
    "CLIP_QUESTION_TYPES",
    "QUESTION_TYPES",
    "CaptionsConfig",
    "ClipQuestionType",
    "ClipQuestionsConfig",
    "PromptsConfig",
    "QuestionType",
    "QuestionsConfig",
]

QuestionType = Literal["action", "object", "scene", "temporal"]

QUESTION_TYPES: tuple[QuestionType, ...] = ("action", "object", "scene", "temporal")
"""What a question may ask about, in the order in which a clip's samples come."""


ClipQuestionType = Literal["which", "after", "before", "first", "order", "list"]

CLIP_QUESTION_TYPES: tuple[ClipQuestionType, ...] = ("which", "after", "before", "first", "order", "list")
"""What a question over the clips of one sample may ask."""


class CaptionsConfig(StrictModel):
    """Captions that replace the source's own, joined by clip id.

    `file` is a CSV, JSON, JSONL or Parquet file, or a folder of such; `missing` says what happens to a
    clip without a (non-blank) caption there: the build stops, it keeps its own, or it is rejected.
    """

    file: str
    id_column: str = "clip_id"
    column: str = "caption"
    missing: Literal["error", "original", "drop"] = "error"


class PromptsConfig(StrictModel):
    """k prompts, the recipe's `prompt` among them; each sample gets one of them.

    They come from `choices`, from `file` (one prompt a line), or from the list that is shipped.
    `k: null` takes all of them.
    """

    file: str | None = None
    choices: Annotated[list[str], Field(min_length=1)] | None = None
    k: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 7

    @model_validator(mode="after")
    def _check_one(self) -> PromptsConfig:
        if self.file is not None and self.choices is not None:
            raise ValueError("file and choices are two lists of prompts; give one of them")
        return self


class QuestionsConfig(StrictModel):
    """Questions with answers about single clips: one sample each.

    `file` is a CSV, JSON, JSONL or Parquet file, one of VideoWeave's (`.txt`), or a folder of such.
    `types` are the ones to use; `incomplete` says what happens when a clip that is asked about lacks one.
    """

    file: str
    id_column: str = "clip_id"
    type_column: str = "type"
    question_column: str = "question"
    answer_column: str = "answer"
    types: Annotated[list[QuestionType], Field(min_length=1, default_factory=lambda: list(QUESTION_TYPES))]
    incomplete: Literal["error", "keep", "drop"] = "error"

    @field_validator("types")
    @classmethod
    def _check_distinct(cls, types: list[QuestionType]) -> list[QuestionType]:
        if len(set(types)) < len(types):
            raise ValueError(f"{', '.join(types)}: a type is named twice")
        return types


class ClipQuestionsConfig(StrictModel):
    """Questions over the clips of woven samples, in place of the prompt and the joined captions.

    A `share` of the samples is asked `per_sample` questions of some `types`, drawn by `seed`; a sample that
    they leave nothing to ask about (equal captions, one clip) keeps its description.
    """

    types: Annotated[
        list[ClipQuestionType], Field(min_length=1, default_factory=lambda: list(CLIP_QUESTION_TYPES))
    ]
    per_sample: Annotated[int, Field(ge=1, le=16)] = 1
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 7

    @field_validator("types")
    @classmethod
    def _check_distinct(cls, types: list[ClipQuestionType]) -> list[ClipQuestionType]:
        if len(set(types)) < len(types):
            raise ValueError(f"{', '.join(types)}: a type is named twice")
        return types
