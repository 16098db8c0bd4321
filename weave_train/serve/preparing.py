"""A checked request becomes a prompt of the model, by the code that made its training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weave_data.errors import ConfigError, VerificationError
from weave_train.models.asking import Asked, ask_one
from weave_train.models.decoding import AnswerOptions
from weave_train.models.model import VideoLanguageModel
from weave_train.models.video import VideoReader
from weave_train.rows.prompt import PromptBuilder
from weave_train.serve.api_errors import ApiError
from weave_train.serve.limits import ServeLimits
from weave_train.serve.media import read_frames
from weave_train.serve.requests import ChatRequest, Message, read_request

__all__ = ["Prepared", "prepare"]

_SPEAKERS = {"user": "human", "assistant": "gpt"}


@dataclass(frozen=True)
class Prepared:
    """A prompt that waits for its answer."""

    request: ChatRequest
    asked: Asked
    options: AnswerOptions


def prepare(
    body: bytes, vlm: VideoLanguageModel, model_id: str, videos: VideoReader, limits: ServeLimits
) -> Prepared:
    """Check, decode and encode one request; takes as long as its pictures do.

    Raises:
        ApiError: Something in it is wrong, or it does not fit.
    """
    request = read_request(body)
    if request.model != model_id:
        raise ApiError(
            f"model: there is no model {request.model[:80]!r} here; this server has {model_id!r}",
            status=404,
            param="model",
            code="model_not_found",
        )
    try:
        options = request.options(limits)
        builder = _builder(vlm, request.messages)
        asked = ask_one(vlm, read_frames(request.messages, videos, limits), builder)
    except (ConfigError, VerificationError) as error:
        raise ApiError(str(error), param="messages") from error
    return Prepared(request, asked, options)


def _builder(vlm: VideoLanguageModel, messages: Sequence[Message]) -> PromptBuilder:
    has_system = messages[0].role in ("system", "developer")
    builder = vlm.get_prompt_builder(messages[0].text if has_system else None)
    turns = messages[1:] if has_system else messages
    for number, message in enumerate(turns, start=int(has_system)):
        if message.role not in _SPEAKERS:
            raise ApiError(
                f"messages.{number}.role: {message.role!r} may only be first", param=f"messages.{number}.role"
            )
        builder.add_turn(_SPEAKERS[message.role], message.text)
    if not turns or turns[-1].role != "user":
        raise ApiError("messages: the last one must be the user's: it is what is answered", param="messages")
    return builder
