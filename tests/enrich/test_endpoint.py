"""Claims about asking an endpoint; requests go to a function, not over a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from email.utils import formatdate

import httpx2
import pyarrow.parquet as pq
import pytest

from weave_data.config.enrich import EnrichConfig
from weave_data.config.loading import load_config
from weave_data.enrich.endpoint import _retry_after
from weave_data.errors import (
    ConfigError,
    DeviceError,
    IncompleteError,
    RejectLimitError,
    SourceError,
)
from weave_data.pipeline.enrichment import enrich

SECRET = "sk-not-to-be-stored"
Reply = Callable[[dict, int], httpx2.Response]


def say(text: str, *, finish: str = "stop") -> httpx2.Response:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return httpx2.Response(200, json={"choices": [choice], "usage": usage})


class Server(httpx2.MockTransport):
    """Answers with `reply(request, number of this caption's earlier requests)`."""

    def __init__(self, reply: Reply) -> None:
        self.requests: list[dict] = []
        self.headers: list[httpx2.Headers] = []
        self.most_at_once = self._now = 0
        self._reply = reply
        super().__init__(self._handle)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        earlier = sum(told["messages"] == body["messages"] for told in self.requests)
        self.requests.append(body)
        self.headers.append(request.headers)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        return self._reply(body, earlier)


def caption_of(request: dict) -> str:
    return request["messages"][-1]["content"].rpartition("Caption: ")[2]


@pytest.fixture
def settings(tmp_path):
    def make(texts: list[str], **changes) -> EnrichConfig:
        rows = [{"clip_id": f"c{index}", "caption": text} for index, text in enumerate(texts)]
        (tmp_path / "in.json").write_text(json.dumps(rows), encoding="utf-8")
        values = {
            "task": "captions",
            "captions": {"file": str(tmp_path / "in.json")},
            "model": {"kind": "endpoint", "url": "http://x/v1", "name": "m", "backoff_seconds": 1e-3},
            "output": str(tmp_path / "out"),
        }
        return load_config(EnrichConfig, values, overrides=list(changes.items()), origin="test")

    return make


def rows_of(config: EnrichConfig, path: str) -> list[dict]:
    return pq.read_table(f"{config.output}/{path}").to_pylist()


def test_captions_are_written_by_clip_with_their_provenance_and_nothing_is_asked_twice(settings) -> None:
    config = settings(["dog", "cat", "dog"])
    server = Server(lambda request, _: say(f"A {caption_of(request)}."))
    result = enrich(config, transport=server)
    rows = rows_of(config, result.path)
    assert [(row["clip_id"], row["caption"]) for row in rows] == [
        ("c0", "A dog."),
        ("c1", "A cat."),
        ("c2", "A dog."),
    ]
    assert {row["model"] for row in rows} == {"m"}
    assert len({(row["prompt_sha256"], row["input_sha256"]) for row in rows}) == 2
    assert len(server.requests) == result.num_requests == 2
    again = enrich(config, transport=server)
    assert (again.path, again.num_requests, len(server.requests)) == (result.path, 0, 2)


def test_only_new_captions_are_asked_about(settings) -> None:
    server = Server(lambda request, _: say("x"))
    enrich(settings(["dog", "cat"]), transport=server)
    result = enrich(settings(["cat", "bird", "dog"]), transport=server)
    assert [caption_of(request) for request in server.requests[2:]] == ["bird"]
    assert result.count.num_out == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("answers.temperature", 0.5),
        ("answers.seed", 8),
        ("answers.max_tokens", 9),
        ("model.name", "n"),
        ("model.revision", "r2"),
    ],
)
def test_other_parameters_are_other_answers(settings, path, value) -> None:
    server = Server(lambda request, _: say("x"))
    enrich(settings(["dog"]), transport=server)
    enrich(settings(["dog"], **{path: value}), transport=server)
    assert len(server.requests) == 2


def test_where_and_how_fast_a_model_runs_changes_nothing(settings) -> None:
    server = Server(lambda request, _: say("x"))
    enrich(settings(["dog"]), transport=server)
    moved = {"model.url": "https://y/v1", "model.concurrency": 1, "model.attempts": 3, "answers.batch": 7}
    enrich(settings(["dog"], **moved), transport=server)
    assert len(server.requests) == 1


def failing(*replies: httpx2.Response | Exception) -> Reply:
    def reply(request: dict, earlier: int) -> httpx2.Response:
        if earlier < len(replies):
            if isinstance(replies[earlier], Exception):
                raise replies[earlier]
            return replies[earlier]
        return say("fine")

    return reply


def test_passing_faults_are_tried_again(settings) -> None:
    faults = [
        httpx2.Response(503),
        httpx2.Response(429, headers={"retry-after": "0"}),
        httpx2.ReadError("dropped"),
        httpx2.ReadTimeout("slow"),
        httpx2.Response(200, content=b'{"choices": [{"mess'),
        httpx2.Response(200, json={"object": "nothing"}),
    ]
    server = Server(failing(*faults))
    assert enrich(settings(["dog"]), transport=server).count.num_out == 1
    assert len(server.requests) == 7


def test_a_pause_the_server_asks_for_holds_every_request(settings) -> None:
    times: list[float] = []

    def reply(request: dict, earlier: int) -> httpx2.Response:
        times.append(time.monotonic())
        is_first = len(times) == 1
        return httpx2.Response(429, headers={"retry-after": "0.4"}) if is_first else say("fine")

    enrich(settings(["a", "b", "c"], **{"model.concurrency": 1}), transport=Server(reply))
    assert times[1] - times[0] >= 0.4


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    assert 50 < _retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert [_retry_after(value) for value in (None, "", "soon", "-3", "7")] == [0, 0, 0, 0, 7]


def test_requests_at_once_are_bounded(settings) -> None:
    server = Server(lambda request, _: say("x"))
    enrich(settings([str(index) for index in range(40)], **{"model.concurrency": 3}), transport=server)
    assert server.most_at_once == 3


def test_malformed_answers_are_asked_again_with_another_seed_then_rejected_and_counted(settings) -> None:
    def reply(request: dict, earlier: int) -> httpx2.Response:
        match caption_of(request):
            case "mute":
                return say(" ")
            case "late":
                return say("" if earlier == 0 else "at last")
            case "long":
                return say("half of it", finish="length")
            case "filtered":
                return say("", finish="content_filter")
            case "too big":
                return httpx2.Response(400, json={"error": {"message": "context length"}})
        return say("fine")

    captions = ["mute", "late", "long", "filtered", "too big", *map(str, range(20))]
    config = settings(captions, **{"answers.tries": 3})
    server = Server(reply)
    result = enrich(config, transport=server)
    expected = {"empty_answer": 1, "cut_off": 1, "refusal": 1, "request_refused": 1}
    assert result.count.rejected == expected
    assert result.count.is_balanced
    assert (result.count.num_in, result.count.num_out) == (25, 21)
    seeds = [request["seed"] for request in server.requests if caption_of(request) == "mute"]
    assert seeds == [7, 8, 9]
    assert [request["seed"] for request in server.requests if caption_of(request) == "too big"] == [7]
    assert {row["clip_id"]: row["reason"] for row in rows_of(config, result.rejects_path)}[
        "c4"
    ] == "request_refused"
    before = len(server.requests)
    enrich(config, transport=server)
    assert len(server.requests) == before
    enrich(config, transport=server, retry_rejected=True)
    assert len(server.requests) == before + 10


def test_questions_are_validated_json_of_every_type(settings) -> None:
    pair = json.dumps({"question": "Q?", "answer": "A"})
    config = settings(["dog", "cat"], task="questions", **{"model.json_schema": True})
    server = Server(lambda request, earlier: say(pair if earlier else "Sure!"))
    result = enrich(config, transport=server)
    rows = rows_of(config, result.path)
    assert [(row["clip_id"], row["type"]) for row in rows[:4]] == [
        ("c0", kind) for kind in ("action", "object", "scene", "temporal")
    ]
    assert {(row["question"], row["answer"]) for row in rows} == {("Q?", "A")}
    assert len(server.requests) == 16
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == [
        "question",
        "answer",
    ]


def test_a_dead_server_leaves_the_run_incomplete_and_the_rest_is_asked_later(settings) -> None:
    changes = {"model.attempts": 2, "model.concurrency": 1}
    config = settings([str(index) for index in range(30)], **changes)
    alive = [True]

    def reply(request: dict, earlier: int) -> httpx2.Response:
        alive[0] = alive[0] and len(server.requests) <= 10
        return say("x") if alive[0] else httpx2.Response(503)

    server = Server(reply)
    with pytest.raises(IncompleteError, match="8 questions in a row got no answer in 2 attempts"):
        enrich(config, transport=server)
    assert len(server.requests) == 10 + 8 * 2
    second = Server(lambda request, _: say("x"))
    assert enrich(config, transport=second).count.num_out == 30
    assert len(second.requests) == 20


def test_single_failures_leave_the_run_incomplete(settings) -> None:
    def reply(request: dict, earlier: int) -> httpx2.Response:
        return httpx2.Response(500) if caption_of(request) == "3" else say("x")

    config = settings([str(index) for index in range(12)], **{"model.attempts": 2})
    with pytest.raises(IncompleteError, match="1 of 12 questions got no answer in 2 attempts"):
        enrich(config, transport=Server(reply))


@pytest.mark.parametrize(
    ("status", "message"), [(401, "check the key"), (404, "check the address and model.name 'm'")]
)
def test_a_server_that_does_not_know_us_stops_the_run_at_once(settings, status, message) -> None:
    server = Server(lambda request, _: httpx2.Response(status))
    with pytest.raises(SourceError, match=message):
        enrich(settings([str(index) for index in range(50)], **{"model.concurrency": 1}), transport=server)
    assert len(server.requests) == 1


def test_a_model_that_refuses_everything_is_stopped_early(settings) -> None:
    server = Server(lambda request, _: say("Sorry, no."))
    config = settings([str(index) for index in range(900)], **{"answers.tries": 1, "model.concurrency": 4})
    with pytest.raises(RejectLimitError, match="100 of 100 answers were refused"):
        enrich(config, transport=server)
    assert len(server.requests) < 110


def test_the_api_key_is_sent_and_never_stored(settings, monkeypatch, tmp_path, caplog) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MY_KEY", SECRET)
    config = settings(["dog"], **{"model.api_key_env": "MY_KEY"})
    server = Server(lambda request, _: say("x"))
    result = enrich(config, transport=server)
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored
    assert SECRET not in caplog.text + "".join(result.lines())
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(DeviceError, match="MY_KEY is not set"):
        enrich(settings(["cat"], **{"model.api_key_env": "MY_KEY"}), transport=server)


def test_a_dry_run_counts_requests_and_tokens_and_asks_nothing(settings) -> None:
    server = Server(lambda request, _: say("x"))
    result = enrich(settings(["dog", "dog", "cat"], task="questions"), transport=server, dry_run=True)
    assert (result.num_open, result.completion_tokens, server.requests) == (8, 8 * 256, [])
    assert 8 * 50 < result.prompt_tokens < 8 * 200
    assert result.lines()[0].startswith("8 requests to make, about ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": None}, "give source or captions"),
        ({"model.url": "x"}, "write http://host:port/v1"),
        ({"answers.refusals": ["("]}, "is not a regular expression"),
        ({"model": {"kind": "local", "path": "m"}}, "answers greedily"),
    ],
)
def test_settings_that_fit_nothing_are_errors(settings, changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(["dog"], **changes)
