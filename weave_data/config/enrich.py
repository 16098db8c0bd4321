"""What `weave-data enrich CONFIG.yaml` reads: whose captions, which model, which answers count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from weave_data.config.captions import QUESTION_TYPES, QuestionType
from weave_data.config.execution import ExecutionConfig
from weave_data.config.loading import StrictModel, load_config_file
from weave_data.config.source import SourceConfig

__all__ = [
    "AnswersConfig",
    "CaptionInput",
    "EndpointConfig",
    "EnrichConfig",
    "LocalModelConfig",
    "load_enrich_config",
]

REFUSALS = (r"(?i)^(i'm|i am) (sorry|unable|an ai)", r"(?i)^(sorry|as an ai)\b", r"(?i)^i (can't|cannot) ")


class CaptionInput(StrictModel):
    """A caption file to enrich, where there is no source to catalog."""

    file: str
    id_column: str = "clip_id"
    column: str = "caption"


class EndpointConfig(StrictModel):
    """A server that speaks the OpenAI chat-completions protocol (vLLM, Ray Serve LLM, hosted ones).

    `url` ends before `/chat/completions`. The API key is read from the environment variable that
    `api_key_env` names and goes nowhere but into requests. A request is tried `attempts` times, with
    exponential back-off from `backoff_seconds`, or as long as the server's Retry-After says.
    `revision` tells two models of one name apart; `json_schema` asks the server to enforce the form
    of questions.
    """

    kind: Literal["endpoint"] = "endpoint"
    url: str
    name: str
    revision: str | None = None
    api_key_env: str | None = None
    json_schema: bool = False
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    attempts: Annotated[int, Field(ge=1)] = 8
    backoff_seconds: Annotated[float, Field(gt=0)] = 1.0

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r}: write http://host:port/v1 or https://host/v1")
        return url.rstrip("/")


class LocalModelConfig(StrictModel):
    """A transformers causal language model in a folder, run greedily on actors, `batch_size` at once."""

    kind: Literal["local"]
    path: str
    batch_size: Annotated[int, Field(ge=1)] = 16
    actors: Annotated[int, Field(ge=1)] = 1


class AnswersConfig(StrictModel):
    """How answers are drawn and which of them count.

    An answer that is empty, cut off, longer than `max_chars`, matches one of `refusals` or has not the
    form asked for is asked again, `tries` times in all with seeds counted up, and then rejected. The
    run stops when more than `max_rejected` of the answers are. `batch` answers are committed at once.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 7
    max_tokens: Annotated[int, Field(ge=1)] = 256
    max_chars: Annotated[int, Field(ge=1)] = 2000
    refusals: list[str] = Field(default_factory=lambda: list(REFUSALS))
    tries: Annotated[int, Field(ge=1)] = 2
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.2
    batch: Annotated[int, Field(ge=1)] = 256

    @field_validator("refusals")
    @classmethod
    def _check_patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns


class EnrichConfig(StrictModel):
    """Captions rewritten, or questions with answers written, by a language model.

    Give `source` (as in a build) or `captions`. `prompts` is a YAML file with `system` and `user` texts
    under `caption` or under the types; `{caption}` stands for the clip's caption.
    """

    task: Literal["captions", "questions"]
    source: SourceConfig | None = None
    captions: CaptionInput | None = None
    types: Annotated[list[QuestionType], Field(min_length=1, default_factory=lambda: list(QUESTION_TYPES))]
    prompts: str | None = None
    model: Annotated[EndpointConfig | LocalModelConfig, Field(discriminator="kind")]
    answers: AnswersConfig = AnswersConfig()
    output: str
    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="after")
    def _check(self) -> EnrichConfig:
        if (self.source is None) == (self.captions is None):
            raise ValueError("give source or captions: one of them says what to enrich")
        if self.model.kind == "local" and (self.answers.temperature or self.answers.tries != 1):
            raise ValueError("a local model answers greedily: set answers.temperature to 0 and tries to 1")
        return self


def load_enrich_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> EnrichConfig:
    """Load and validate a configuration of `weave-data enrich`.

    Raises:
        ConfigError: All problems at once, each with its dotted path.
    """
    return load_config_file(EnrichConfig, path, overrides)
