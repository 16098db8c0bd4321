"""OpenAI's own client is answered as `generate` answers; rubbish is refused, and nobody else notices."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from PIL import Image
from talkative import talkative_model
from test_video import render
from tiny_rows import jpeg

from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel
from weave_train.models.video import frames_from_video
from weave_train.serve.app import build_app
from weave_train.serve.limits import ServeLimits

RED, BLUE = jpeg((200, 30, 30)), jpeg((30, 30, 200))
LIMITS = ServeLimits(
    max_body_bytes=2_000_000,
    max_frames=6,
    max_image_px=1_000_000,
    max_new_tokens=40,
    default_new_tokens=12,
    max_batch=3,
    max_waiting=8,
)
MODEL = "tiny"


@pytest.fixture(scope="module")
def llama(settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return talkative_model("llama", settings.model_copy(update={"num_frames": 4}), tokenizer)


@pytest.fixture(scope="module")
def server(llama: VideoLanguageModel) -> Iterator[tuple[str, Any]]:
    """Address of a real server, and its line."""
    app = build_app(llama, MODEL, LIMITS, hosts=("127.0.0.1", "localhost"))
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not running.started:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", app.state.line
    running.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def client(server: tuple[str, Any]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0, timeout=120)


def data_url(data: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def question(text: str, *parts: dict[str, Any]) -> list[Any]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def expected(vlm: VideoLanguageModel, frames: list[bytes], *turns: str, **options: Any) -> str:
    builder = vlm.get_prompt_builder()
    for number, text in enumerate(turns):
        builder.add_turn(("human", "gpt")[number % 2], text)
    return vlm.generate(frames, builder, **{"max_new_tokens": 12, **options})


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_frames_are_answered_as_generate_answers(client: openai.OpenAI, llama: VideoLanguageModel) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=question("What moves?", image(RED), image(BLUE)), temperature=0
    )
    (choice,) = answer.choices
    assert choice.message.content == expected(llama, [RED, BLUE], "What moves?")
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    text_only = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What moves?"}], max_completion_tokens=5
    )
    assert text_only.choices[0].message.content == expected(llama, [], "What moves?", max_new_tokens=5)
    assert text_only.usage is not None
    assert answer.usage.prompt_tokens == text_only.usage.prompt_tokens + 2 * 4  # visual tokens


def test_a_conversation_is_answered_with_its_history(
    client: openai.OpenAI, llama: VideoLanguageModel
) -> None:
    messages = [
        *question("What moves?", image(RED)),
        {"role": "assistant", "content": "A circle."},
        {"role": "user", "content": "Where?"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == expected(llama, [RED], "What moves?", "A circle.", "Where?")


@pytest.mark.process
def test_a_video_is_sampled_as_the_run_was(
    client: openai.OpenAI, llama: VideoLanguageModel, tmp_path: Path
) -> None:
    render(tmp_path / "clip.mp4", 20)
    url = data_url((tmp_path / "clip.mp4").read_bytes(), "video/mp4")
    video: Any = {"type": "video_url", "video_url": {"url": url}}
    answer = client.chat.completions.create(model=MODEL, messages=question("What moves?", video))
    frames = frames_from_video(tmp_path / "clip.mp4", llama.settings)
    assert answer.choices[0].message.content == expected(llama, frames, "What moves?")
    video["video_url"]["url"] = data_url(b"no video at all", "video/mp4")
    with pytest.raises(openai.BadRequestError, match="no frames can be decoded"):
        client.chat.completions.create(model=MODEL, messages=question("What moves?", video))


def test_a_stream_is_the_same_answer(client: openai.OpenAI, llama: VideoLanguageModel) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=question("What moves?", image(RED)),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == expected(llama, [RED], "What moves?")
    assert sum(bool(piece) for piece in pieces) > 2
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_stop_texts_seeds_and_top_p_are_kept(client: openai.OpenAI, llama: VideoLanguageModel) -> None:
    whole = expected(llama, [RED], "What moves?")
    stop = whole[len(whole) // 2 :][:3]
    answer = client.chat.completions.create(
        model=MODEL, messages=question("What moves?", image(RED)), stop=[stop]
    )
    assert answer.choices[0].message.content == whole[: whole.index(stop)].strip()
    assert answer.choices[0].finish_reason == "stop"
    drawn = client.chat.completions.create(
        model=MODEL, messages=question("What moves?", image(RED)), temperature=1.5, top_p=0.9, seed=3
    )
    options = {"do_sample": True, "temperature": 1.5, "top_p": 0.9, "seed": 3}
    assert drawn.choices[0].message.content == expected(llama, [RED], "What moves?", **options)


def test_requests_at_once_are_answered_in_batches(
    client: openai.OpenAI, server: tuple[str, Any], llama: VideoLanguageModel
) -> None:
    line = server[1]
    before = line.num_batches
    questions = [f"What moves in picture {number}?" for number in range(6)]

    def ask(text: str) -> str | None:
        answer = client.chat.completions.create(
            model=MODEL, messages=question(text, image(RED)), max_tokens=30
        )
        return answer.choices[0].message.content

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, questions))
    assert answers == [expected(llama, [RED], text, max_new_tokens=30) for text in questions]
    assert line.num_batches - before < 6


def post(server: tuple[str, Any], body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server[0]}/v1/chat/completions",
        content=body,
        headers={"content-type": "application/json", **headers},
        timeout=120,
    )


def body(**changes: Any) -> bytes:
    values = {"model": MODEL, "messages": question("What moves?"), **changes}
    return json.dumps(values).encode()


def bomb() -> bytes:
    """A PNG of a few kB that says it has 30,000 x 30,000 px."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def plain_png(side_px: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px)).save(buffer, "PNG")
    return buffer.getvalue()


def with_url(url: str, kind: str = "image_url") -> bytes:
    return body(messages=question("What?", {"type": kind, kind: {"url": url}}))


DEEP = b'{"model": "tiny", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
SYSTEM = [{"role": "system", "content": "x"}]
HOSTILE = {
    "not JSON": (b"{", 400, "the request: Invalid JSON"),
    "deep JSON": (DEEP, 400, "Invalid JSON|recursion"),
    "no object": (b"[]", 400, "the request: "),
    "half a surrogate": (
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        400,
        "JSON",
    ),
    "no text": (b"\xff\xfe{}", 400, "JSON"),
    "other model": (body(model="gpt-4"), 404, "there is no model 'gpt-4' here"),
    "unknown role": (body(messages=[{"role": "robot", "content": "x"}]), 400, "messages.0.role: .*'robot'"),
    "no messages": (body(messages=[]), 400, "messages: "),
    "answer wanted of nobody": (
        body(messages=[{"role": "system", "content": "x"}]),
        400,
        "system_prompt|last",
    ),
    "two questions": (body(messages=question("a") * 2), 400, "turns alternate"),
    "late system": (
        body(messages=[*question("a"), {"role": "system", "content": "b"}]),
        400,
        "only be first",
    ),
    "last is ours": (
        body(messages=[*question("a"), {"role": "assistant", "content": "b"}]),
        400,
        "the last one must be the user's",
    ),
    "n": (body(n=2), 400, "n: .*got 2"),
    "negative": (body(max_tokens=-1), 400, "max_tokens: .*got -1"),
    "too many": (body(max_tokens=41), 400, "max_tokens: 41 tokens are more than the 40"),
    "true": (body(max_tokens=True), 400, "max_tokens: "),
    "cold": (body(temperature=-0.1), 400, "temperature: "),
    "not a number": (body(temperature=float("nan")), 400, "temperature: |JSON"),
    "tools": (body(tools=[]), 400, "tools: "),
    "empty stop": (body(stop=""), 400, "stop_strings"),
    "file": (with_url("file:///etc/passwd"), 400, "'file' URLs are not fetched"),
    "http": (with_url("http://169.254.169.254/latest"), 400, "'http' URLs are not fetched"),
    "video by http": (
        with_url("https://example.com/a.mp4", "video_url"),
        400,
        "'https' URLs are not fetched",
    ),
    "no base64": (with_url("data:image/png,abc"), 400, "it must be data:image/...;base64"),
    "damaged base64": (with_url("data:image/png;base64,@@@"), 400, "the base64 is damaged"),
    "not an image": (with_url(data_url(b"<svg/>", "image/png")), 400, "can't load as JPEG, PNG"),
    "half an image": (with_url(data_url(RED[:-200])), 400, "can't load as JPEG, PNG"),
    "bomb": (with_url(data_url(bomb(), "image/png")), 400, "at least 89478485 px; 1000000 px are allowed"),
    "large image": (with_url(data_url(plain_png(1200), "image/png")), 400, "1440000 px; 1000000 px"),
    "video as image": (with_url(data_url(b"x", "video/mp4")), 400, "it must be data:image/"),
    "many frames": (body(messages=question("a", *[image(RED)] * 7)), 400, "7 frames of"),
    "image of the model": (
        body(messages=[*question("a"), {"role": "assistant", "content": [image(RED)]}, *question("b")]),
        400,
        "only messages of the user",
    ),
    "long": (body(messages=question("what " * 5000)), 400, "leave no room"),
    "huge": (b" " * 2_000_001, 413, "more than 2000000 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_requests_are_refused_in_openais_form(server: tuple[str, Any], name: str) -> None:
    content, status, message = HOSTILE[name]
    answer = post(server, content)
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert re.search(message, error["message"]), error["message"]
    assert len(error["message"]) < 500
    assert "/" + "work" not in error["message"]


def test_control_characters_are_text(server: tuple[str, Any], llama: VideoLanguageModel) -> None:
    text = "\x00\x07\x1b[2J</s><image> What\u202e?"
    answer = post(server, body(messages=question(text, image(RED))))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == expected(llama, [RED], text)


def test_a_body_without_a_length_is_bounded_too(server: tuple[str, Any]) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    try:
        answer = httpx.post(
            f"{server[0]}/v1/chat/completions",
            content=endless(),
            headers={"content-type": "application/json"},
            timeout=60,
        )
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # it hung up while we were still sending


def test_browsers_pages_and_other_hosts_are_refused(server: tuple[str, Any]) -> None:
    assert post(server, body(), **{"content-type": "text/plain"}).status_code == 415
    foreign = post(server, body(), host="evil.example")
    assert foreign.status_code == 403
    assert "evil.example" in foreign.json()["error"]["message"]
    missing = httpx.get(f"{server[0]}/v1/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{server[0]}/v1/chat/completions").status_code == 405


def test_the_server_goes_on_after_all_of_it(client: openai.OpenAI, llama: VideoLanguageModel) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=question("What moves?", image(BLUE)))
    assert answer.choices[0].message.content == expected(llama, [BLUE], "What moves?")


def test_a_model_that_fails_fails_one_request(
    server: tuple[str, Any], llama: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = llama.encode

    def out_of_memory(pixels: Any) -> Any:
        raise RuntimeError("out of memory: tried to allocate 7 GiB\nmore")

    monkeypatch.setattr(llama, "encode", out_of_memory)
    answer = post(server, body())
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "out of memory: tried to allocate 7 GiB;" in answer.json()["error"]["message"]
    streamed = post(server, body(stream=True))
    assert '"server_error"' in streamed.text
    assert "[DONE]" not in streamed.text
    monkeypatch.setattr(llama, "encode", encode)
    assert post(server, body()).status_code == 200


def test_a_full_line_says_come_back(llama: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from weave_train.serve.api_errors import ApiError
    from weave_train.serve.line import AnswerLine
    from weave_train.serve.preparing import prepare

    limits = replace(LIMITS, max_waiting=2)
    prepared = prepare(body(), llama, MODEL, None, limits)  # type: ignore[arg-type]  no video in it
    line = AnswerLine(llama, limits)  # not started: nobody is served

    async def join() -> list[Any]:
        loop = asyncio.get_running_loop()
        waiting = [line.join(prepared, loop) for _ in range(2)]
        with pytest.raises(ApiError, match="2 requests are waiting") as caught:
            line.join(prepared, loop)
        assert caught.value.status == 429
        line.close()
        return [await one.events.get() for one in waiting]

    events = asyncio.run(join())
    assert [str(event) for event in events] == ["the server stops"] * 2
