"""A request's JSON, checked: what is not understood is refused, never passed over.

Source:
    OpenAI's chat completions. `video_url` parts are written as vLLM takes them. Differs: without
    `temperature` the likeliest tokens are taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weave_train.models.decoding import AnswerOptions
from weave_train.serve.api_errors import ApiError
from weave_train.serve.limits import ServeLimits

__all__ = ["ChatRequest", "ImagePart", "Message", "TextPart", "VideoPart", "read_request"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """Text of a message."""

    type: Literal["text"]
    text: str


class _ImageUrl(_Strict):
    url: str
    detail: str | None = None


class ImagePart(_Strict):
    """An image: one frame."""

    type: Literal["image_url"]
    image_url: _ImageUrl


class _VideoUrl(_Strict):
    url: str


class VideoPart(_Strict):
    """A video, sampled as the run's data set was."""

    type: Literal["video_url"]
    video_url: _VideoUrl


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(_Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        """Its text parts, one a line."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if isinstance(part, TextPart))
        return self.content or ""


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class _TextFormat(_Strict):
    type: Literal["text"]


class ChatRequest(_Strict):
    """`/v1/chat/completions`. Fields that can't be honoured accept only the value that asks for nothing."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = 1
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    response_format: _TextFormat | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None

    def options(self, limits: ServeLimits) -> AnswerOptions:
        """How the answer is made.

        Raises:
            ApiError: It would be longer than the endpoint allows.
            ConfigError: An empty stop text.
        """
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        asked = getattr(self, name)
        if asked is not None and asked > limits.max_new_tokens:
            raise ApiError(
                f"{name}: {asked} tokens are more than the {limits.max_new_tokens} this server gives; "
                "ask for fewer",
                param=name,
            )
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return AnswerOptions(
            max_new_tokens=asked or limits.default_new_tokens,
            do_sample=bool(self.temperature),
            temperature=self.temperature or 1.0,
            top_p=self.top_p,
            stop_strings=stop,
            seed=None if self.seed is None else self.seed % 2**63,
        )


def read_request(body: bytes) -> ChatRequest:
    """Parse a request.

    Raises:
        ApiError: Not JSON, or not such a request; names the first field that is wrong.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=True)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        where = "the request" if param is None else param
        raise ApiError(f"{where}: {first['msg']}{_shown(first)}", param=param) from error


def _shown(problem: Any) -> str:
    value = problem.get("input")
    is_short = isinstance(value, (int, float, str)) and len(str(value)) < 80
    return f", got {value!r}" if is_short and problem["type"] != "json_invalid" else ""
