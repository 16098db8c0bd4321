"""Answers as JSON, whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from weave_train.serve.api_errors import ApiError, error_body
from weave_train.serve.line import Ended, Waiting

__all__ = ["Reply"]


@dataclass(frozen=True)
class Reply:
    """How one request is answered."""

    waiting: Waiting
    model_id: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def whole(self) -> dict[str, Any]:
        """A `chat.completion`.

        Raises:
            ApiError: The model failed.
        """
        pieces: list[str] = []
        while not isinstance(event := await self.waiting.events.get(), Ended):
            if isinstance(event, ApiError):
                raise event
            pieces.append(event)
        message = {"role": "assistant", "content": "".join(pieces), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": event.reason, "logprobs": None}
        return self._envelope("chat.completion", [choice]) | {"usage": self._usage(event)}

    async def events(self) -> AsyncIterator[str]:
        """`chat.completion.chunk` events, then `[DONE]`; an error is an event, too."""
        request = self.waiting.prepared.request
        with_usage = request.stream_options is not None and request.stream_options.include_usage
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            while not isinstance(event := await self.waiting.events.get(), Ended):
                if isinstance(event, ApiError):
                    yield _event(error_body(event))
                    return
                yield self._chunk({"content": event})
            yield self._chunk({}, reason=event.reason)
            if with_usage:
                yield _event(self._envelope("chat.completion.chunk", []) | {"usage": self._usage(event)})
            yield "data: [DONE]\n\n"
        finally:
            self.waiting.leave()

    def _chunk(self, delta: dict[str, str], *, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _event(self._envelope("chat.completion.chunk", [choice]))

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model_id,
            "choices": choices,
        }

    def _usage(self, ended: Ended) -> dict[str, int]:
        num_prompt = self.waiting.prepared.asked.lengths[0]
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": ended.num_tokens,
            "total_tokens": num_prompt + ended.num_tokens,
        }


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
