"""Asking a server that speaks the OpenAI chat-completions protocol."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import tenacity

from weave_data.config.enrich import AnswersConfig, EndpointConfig
from weave_data.enrich.answers import Answer, AnswerReason, check_answer
from weave_data.enrich.asks import Prompt
from weave_data.errors import DeviceError, IncompleteError, SourceError

__all__ = ["Endpoint", "EndpointFailureError"]

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED = frozenset({400, 413, 422})
_MAX_FAILURES = 8  # questions in a row that nobody answers: the server is gone
_MAX_PAUSE_SECONDS = 600.0
_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}


class EndpointFailureError(Exception):
    """One attempt failed for a reason that may pass."""

    def __init__(self, message: str, pause_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.pause_seconds = pause_seconds


class Endpoint:
    """A bounded number of requests at once; a pause that the server asks for holds all of them.

    Args:
        config: Where and how.
        answers: Parameters and rules.
        prompts: By kind.
        transport: Another way to send requests (tests).

    Raises:
        DeviceError: The environment variable that should hold the API key is empty.
    """

    def __init__(
        self,
        config: EndpointConfig,
        answers: AnswersConfig,
        prompts: dict[str, Prompt],
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._config, self._answers, self._prompts, self._transport = config, answers, prompts, transport
        self._headers = {}
        if config.api_key_env is not None:
            api_key = os.environ.get(config.api_key_env)
            if not api_key:
                raise DeviceError(
                    f"model.api_key_env: {config.api_key_env} is not set; export the API key in it"
                )
            self._headers = {"Authorization": f"Bearer {api_key}"}
        self.num_requests = 0
        self._not_before = 0.0
        self._failures = 0

    def ask(self, asks: Iterator[dict[str, str]], on_answer: Callable[[Answer], None]) -> int:
        """Ask everything; answers arrive in any order, in this thread.

        Args:
            asks: `ask_id`, `kind` and `caption` of each.
            on_answer: Called once per answer, accepted or refused; not for those nobody gave.

        Returns:
            How many got no answer for circumstances.

        Raises:
            SourceError: The server does not know us, the model or the address.
            IncompleteError: It does not answer any more.
        """
        return asyncio.run(self._ask(asks, on_answer))

    async def _ask(self, asks: Iterator[dict[str, str]], on_answer: Callable[[Answer], None]) -> int:
        limits = httpx2.Limits(max_connections=self._config.concurrency)
        async with httpx2.AsyncClient(
            headers=self._headers,
            timeout=self._config.timeout_seconds,
            limits=limits,
            transport=self._transport,
        ) as client:
            workers = [
                asyncio.ensure_future(self._work(client, asks, on_answer))
                for _ in range(self._config.concurrency)
            ]
            try:
                return sum(await asyncio.gather(*workers))
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(
        self, client: httpx2.AsyncClient, asks: Iterator[dict[str, str]], on_answer: Callable[[Answer], None]
    ) -> int:
        num_failed = 0
        for ask in asks:
            try:
                on_answer(await self._answer(client, ask))
                self._failures = 0
            except EndpointFailureError as error:
                num_failed += 1
                self._failures += 1
                if self._failures >= _MAX_FAILURES:
                    raise IncompleteError(
                        f"model.url: {self._failures} questions in a row got no answer in "
                        f"{self._config.attempts} attempts each, last: {error}; answers so far are kept, "
                        "run the same command when the server is back"
                    ) from error
        return num_failed

    async def _answer(self, client: httpx2.AsyncClient, ask: dict[str, str]) -> Answer:
        answer = None
        for attempt in range(self._answers.tries):
            reply = await self._reply(client, self._request(ask, seed=self._answers.seed + attempt))
            answer = _read(reply, ask, self._answers).after(answer)
            if not answer.reason or answer.reason == AnswerReason.REQUEST_REFUSED:
                break
        assert answer is not None
        return answer

    def _request(self, ask: dict[str, str], *, seed: int) -> dict[str, Any]:
        request = {
            "model": self._config.name,
            "messages": self._prompts[ask["kind"]].messages(ask["caption"]),
            "temperature": self._answers.temperature,
            "seed": seed,
            "max_tokens": self._answers.max_tokens,
        }
        if self._config.json_schema and ask["kind"] != "caption":
            form = {"name": "question", "schema": _SCHEMA, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": form}
        return request

    async def _reply(self, client: httpx2.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
        back_off = tenacity.wait_random_exponential(multiplier=self._config.backoff_seconds, max=60)
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._config.attempts),
            wait=lambda state: back_off(state) + _pause_of(state),
            retry=tenacity.retry_if_exception_type(EndpointFailureError),
            reraise=True,
        )
        return await retrying(self._send, client, request)

    async def _send(self, client: httpx2.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
        await self._turn()
        self.num_requests += 1
        try:
            response = await client.post(f"{self._config.url}/chat/completions", json=request)
            if response.status_code in _AGAIN:
                raise self._pause(response)
            self._check_status(response)
            reply = response.json()
        except httpx2.TransportError as error:
            raise EndpointFailureError(f"{type(error).__name__} {error}".strip()) from error
        except ValueError as error:
            raise EndpointFailureError(f"a reply that is not JSON ({error})") from error
        if not isinstance(reply, dict) or not ("choices" in reply or response.status_code in _REFUSED):
            raise EndpointFailureError("a reply without choices")
        return reply | {"status": response.status_code}

    async def _turn(self) -> None:
        """Wait until the server wants another request."""
        clock = asyncio.get_running_loop().time
        while (wait_seconds := self._not_before - clock()) > 0:
            await asyncio.sleep(wait_seconds)
        if self._config.requests_per_minute is not None:
            self._not_before = clock() + 60 / self._config.requests_per_minute

    def _pause(self, response: httpx2.Response) -> EndpointFailureError:
        seconds = _retry_after(response.headers.get("retry-after"))
        now = asyncio.get_running_loop().time()
        self._not_before = max(self._not_before, now + seconds)
        return EndpointFailureError(f"status {response.status_code}", seconds)

    def _check_status(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status == 200 or status in _REFUSED:
            return
        where = f"{self._config.url} answered {status}"
        if status in (401, 403):
            raise SourceError(
                f"model.api_key_env: {where}; check the key in {self._config.api_key_env or 'it'}"
            )
        raise SourceError(f"model.url: {where}; check the address and model.name {self._config.name!r}")


def _pause_of(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.pause_seconds if isinstance(error, EndpointFailureError) else 0.0


def _retry_after(value: str | None) -> float:
    """Seconds to wait: the header is a number or a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - dt.datetime.now(dt.UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), _MAX_PAUSE_SECONDS)


def _read(reply: dict[str, Any], ask: dict[str, str], config: AnswersConfig) -> Answer:
    if reply["status"] in _REFUSED:
        detail = str(reply.get("error") or reply.get("message") or reply)[:200]
        return Answer(ask["ask_id"], None, AnswerReason.REQUEST_REFUSED.value, detail)
    try:
        choice = reply["choices"][0]
        text, finish = choice["message"].get("content") or "", choice.get("finish_reason")
        usage = reply.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise EndpointFailureError(f"a reply of another form ({error!r})") from error
    if finish == "content_filter":
        return Answer(ask["ask_id"], None, AnswerReason.REFUSAL.value, "content_filter", *tokens)
    checked = check_answer(
        ask["ask_id"], ask["kind"], str(text), is_cut_off=finish == "length", config=config
    )
    return checked.after(Answer("", None, "", "", *tokens))
