"""The endpoint: `/v1/models`, `/v1/chat/completions`, `/health`.

It listens to programs of its own machine. A page in a browser there could send requests, too: those must be
JSON by their content type, which no page may send elsewhere unasked, and name a host that is this one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from weave_train.models.video import VideoReader
from weave_train.serve.answers import Reply
from weave_train.serve.api_errors import ApiError, error_body
from weave_train.serve.limits import ServeLimits
from weave_train.serve.line import AnswerLine, Waiting
from weave_train.serve.preparing import prepare

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["build_app"]

_LEFT_SECONDS = 0.5


def build_app(
    vlm: VideoLanguageModel, model_id: str, limits: ServeLimits, *, hosts: Sequence[str] | None
) -> FastAPI:
    """Build the endpoint of one model.

    Args:
        vlm: In eval mode, on its device.
        model_id: Its name in requests.
        limits: See there.
        hosts: Names by which requests may call this machine; None: any.
    """
    line = AnswerLine(vlm, limits)
    videos = VideoReader(
        vlm.settings,
        timeout_seconds=limits.video_timeout_seconds,
        memory_bytes=limits.video_memory_bytes,
    )
    preparing = asyncio.Semaphore(limits.max_preparing)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        line.start()
        yield
        await run_in_threadpool(line.close)
        videos.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)  # no pages: they would load scripts from elsewhere
    app.state.line = line

    @app.exception_handler(ApiError)
    async def _refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return JSONResponse(error_body(error), error.status)

    @app.exception_handler(HTTPException)
    async def _no_such(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:80]}: {error.detail}; see /v1/models"
        return JSONResponse(error_body(ApiError(message, status=error.status_code)), error.status_code)

    @app.exception_handler(Exception)
    async def _broken(_: Request, error: Exception) -> Response:
        return JSONResponse(
            error_body(ApiError(f"the server failed: {type(error).__name__}", status=500)), 500
        )

    @app.get("/health")
    async def health(request: Request) -> Response:
        _check_host(request, hosts)
        return JSONResponse({"status": "ok"})

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        _check_host(request, hosts)
        card = {"id": model_id, "object": "model", "created": 0, "owned_by": "videoweave"}
        return {"object": "list", "data": [card]}

    @app.post("/v1/chat/completions", response_model=None)
    async def complete(request: Request) -> Response:
        _check_host(request, hosts)
        _check_json(request)
        body = await _read_body(request, limits.max_body_bytes)
        async with preparing:
            prepared = await run_in_threadpool(prepare, body, vlm, model_id, videos, limits)
        waiting = line.join(prepared, asyncio.get_running_loop())
        reply = Reply(waiting, model_id)
        if prepared.request.stream:
            return StreamingResponse(reply.events(), media_type="text/event-stream")
        return JSONResponse(await _while_connected(request, waiting, reply))

    return app


def _check_host(request: Request, hosts: Sequence[str] | None) -> None:
    name = request.url.hostname
    if hosts is not None and name not in hosts:
        raise ApiError(f"the host {str(name)[:80]!r} is not this server; use {hosts[0]}", status=403)


def _check_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(f"content-type {kind[:80]!r}: send application/json", status=415)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The body, of which no more is read than is allowed."""
    told = request.headers.get("content-length", "")
    pieces: list[bytes] = []
    size = int(told) if told.isascii() and told.isdecimal() else 0
    received = 0
    if size <= max_bytes:
        async for piece in request.stream():
            pieces.append(piece)
            received += len(piece)
            if received > max_bytes:
                break
    if max(size, received) > max_bytes:
        raise ApiError(
            f"the request has more than {max_bytes} bytes; send fewer or smaller frames", status=413
        )
    return b"".join(pieces)


async def _while_connected(request: Request, waiting: Waiting, reply: Reply) -> dict[str, Any]:
    """The whole answer; it is not made for somebody who has hung up."""
    answer = asyncio.create_task(reply.whole())
    try:
        while not (await asyncio.wait({answer}, timeout=_LEFT_SECONDS))[0]:
            if await request.is_disconnected():
                raise ApiError("the client is gone", status=499)
        return await answer
    finally:
        waiting.leave()
        answer.cancel()
