"""`weave-train serve`: a stored model behind an endpoint in OpenAI's form."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Annotated

import typer

from weave_data.errors import ConfigError
from weave_train.commands.ask import Model, NumFrames, Token

__all__ = ["serve"]

_MIB = 2**20


def serve(
    model: Model,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    name: Annotated[str | None, typer.Option(help="Of the model in requests; default: the run's.")] = None,
    num_frames: NumFrames = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of any answer.")] = 2048,
    max_frames: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    max_body_mib: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    max_batch: Annotated[int, typer.Option(min=1, help="Answers made at once.")] = 4,
    max_waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 16,
    hf_token: Token = None,
) -> None:
    """Answer OpenAI's chat completions: /v1/chat/completions with image_url and video_url as data: URLs."""
    import uvicorn

    from weave_train.loading import load
    from weave_train.serve.app import build_app
    from weave_train.serve.limits import ServeLimits

    try:
        is_private = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"--host {host!r}: give an IP address, e.g. 127.0.0.1 or 0.0.0.0") from error
    limits = replace(
        ServeLimits(),
        max_new_tokens=max_new_tokens,
        default_new_tokens=min(512, max_new_tokens),
        max_frames=max_frames,
        max_body_bytes=max_body_mib * _MIB,
        max_batch=max_batch,
        max_waiting=max_waiting,
    )
    vlm = load(model, hf_token, num_frames=num_frames)
    hosts = ("127.0.0.1", "localhost", "::1", host) if is_private else None
    app = build_app(vlm, name or _name(model), limits, hosts=hosts)
    if not is_private:
        print(f"weave-train: {host} is open to other machines, and nobody is asked who they are", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="info", access_log=False, server_header=False)


def _name(model: str) -> str:
    return PurePosixPath(model.rstrip("/")).name.removesuffix(".pt") or "videoweave"
