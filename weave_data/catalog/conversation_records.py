"""One record of a conversations file: which media, which turns, or what is wrong with it.

{"id", "image": "a.jpg" | ["a.jpg", ...], "conversations": [{"from", "value"}, ...]}    LLaVA
{"id", "video": "a.mp4" | ["a.mp4", ...], "conversations": [...]}                       Video-LLaVA
{"id", "frames": ["v/0000.png", ...], "conversations": [...]}                           VideoWeave
{"id", "videos": ["a.mp4", ...], "num_frames_per_video": k, "conversations": [...]}     VideoWeave
{"id", "conversations": [...]}                                                          text only
{"id": "train-...", "conversations": [{"images": [...], "user", "assistant"}, ...]}     one object a line
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from weave_data.json_rows import BrokenRow
from weave_data.records import RejectReason

__all__ = ["ConversationRecord", "RecordError", "parse_record"]

IMAGE_TOKEN = "<image>"  # noqa: S105
_MEDIA_FIELDS = ("video", "videos", "image", "frames")  # videos come first, as Video-LLaVA orders them
_VIDEO_FIELDS = ("video", "videos")
_MAX_MEDIA = 1024  # frames a sample can have
_SPEAKERS = ("human", "gpt")
_SHOWN = 60


@dataclass(frozen=True)
class ConversationRecord:
    """A record that is well formed; whether its media are there is not known yet.

    Attributes:
        record_id: Its own id, without `train-` in the form of one object a line.
        keys: Media below `source.videos`, in the record's order, videos before images.
        num_videos: The first so many keys are videos, the others images.
        frames_per_video: `num_frames_per_video`, if the record says.
        values: Text of the turns; human and gpt alternate, human first, gpt last.
        num_unused: Conversations of the record beyond the first.
        digest: 32 hex digits over id, media and turns: equal records, equal digests.
    """

    record_id: str
    keys: tuple[str, ...]
    num_videos: int
    frames_per_video: int | None
    values: tuple[str, ...]
    num_unused: int
    digest: str


class RecordError(Exception):
    """A record that is refused: its reason, a detail, and its id as far as there is one."""

    def __init__(self, reason: RejectReason, detail: str, record_id: str = "") -> None:
        self.reason = reason
        self.detail = detail
        self.record_id = record_id
        super().__init__(detail)


def parse_record(value: Any) -> ConversationRecord:
    """Read one record of any of the forms.

    Args:
        value: A row as `json_rows` gives it.

    Raises:
        RecordError: It has none of the forms (`bad_record`), or its turns can't be trained on
            (`bad_turns`): not human and gpt by turns, an empty one, or none.

    Source:
        LLaVA-1.5, Video-LLaVA, VideoWeave and Prismatic read these forms. Differs: broken records are
        refused one by one, VideoWeave stops at the first; `train-` is stripped at the start of an id
        only; a first question about an image that the record does not name is refused.
    """
    if isinstance(value, BrokenRow):
        raise RecordError(RejectReason.BAD_RECORD, value.detail)
    if not isinstance(value, dict):
        raise RecordError(RejectReason.BAD_RECORD, f"a record is an object, this one is {_kind(value)}")
    record_id = value.get("id")
    if not isinstance(record_id, str) or not record_id:
        raise RecordError(RejectReason.BAD_RECORD, f"id is {_show(value, 'id')}; ids are texts, not empty")
    try:
        return _parse(record_id, value)
    except RecordError as problem:
        raise RecordError(problem.reason, problem.detail, _storable(record_id)) from None


def _parse(record_id: str, value: dict[str, Any]) -> ConversationRecord:
    turns = value.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise RecordError(RejectReason.BAD_TURNS, f"conversations is {_show(value, 'conversations')}")
    num_unused = 0
    if isinstance(turns[0], dict) and {"user", "assistant"} & turns[0].keys():
        record_id = record_id.removeprefix("train-")
        num_unused = len(turns) - 1
        value, turns = _first_conversation(value, turns[0])
    keys, num_videos = _media(value)
    values = _values(turns)
    if not keys and _asks_about_image(values[0]):
        raise RecordError(RejectReason.BAD_RECORD, f"the first turn asks about {IMAGE_TOKEN}, none is named")
    return ConversationRecord(
        record_id=record_id,
        keys=keys,
        num_videos=num_videos,
        frames_per_video=_frames_per_video(value),
        values=values,
        num_unused=num_unused,
        digest=_digest(record_id, keys, num_videos, values),
    )


def _first_conversation(value: dict[str, Any], first: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The record as if it had been written with `frames` and two turns."""
    for name in ("user", "assistant"):
        if not isinstance(first.get(name), str):
            raise RecordError(RejectReason.BAD_TURNS, f"conversation 0: {name} is {_show(first, name)}")
    images = first.get("images")
    if not isinstance(images, list):
        detail = f"conversation 0: images is {_show(first, 'images')}; it is a list, empty for text only"
        raise RecordError(RejectReason.BAD_RECORD, detail)
    named = {name: item for name, item in value.items() if name in _MEDIA_FIELDS}
    question = first["user"]
    if not question.strip():
        raise RecordError(RejectReason.BAD_TURNS, "conversation 0: user is empty")
    if images:
        named["frames"] = images
        question = f"{IMAGE_TOKEN}\n{question}"
    return named, [{"from": "human", "value": question}, {"from": "gpt", "value": first["assistant"]}]


def _media(value: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    keys: list[str] = []
    num_videos = 0
    for name in _MEDIA_FIELDS:
        named = value.get(name)
        if named is None:
            continue
        items = [named] if isinstance(named, str) and name in ("image", "video") else named
        if (
            not isinstance(items, list)
            or not items
            or not all(isinstance(item, str) and item for item in items)
        ):
            raise RecordError(RejectReason.BAD_RECORD, f"{name} is {_show(value, name)}; it names files")
        keys += items
        num_videos += len(items) if name in _VIDEO_FIELDS else 0
    if len(keys) > _MAX_MEDIA:
        raise RecordError(RejectReason.BAD_RECORD, f"{len(keys)} media; a sample has at most {_MAX_MEDIA}")
    return tuple(keys), num_videos


def _values(turns: list[Any]) -> tuple[str, ...]:
    values = []
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise RecordError(RejectReason.BAD_TURNS, f"turn {index} is {_kind(turn)}, not an object")
        expected = _SPEAKERS[index % 2]
        if turn.get("from") != expected:
            raise RecordError(
                RejectReason.BAD_TURNS, f"turn {index} is from {_show(turn, 'from')}, {expected}'s turn it is"
            )
        text = turn.get("value")
        if not isinstance(text, str) or not text.strip():
            raise RecordError(RejectReason.BAD_TURNS, f"turn {index}: value is {_show(turn, 'value')}")
        values.append(text)
    if len(values) % 2:
        raise RecordError(RejectReason.BAD_TURNS, f"turn {len(values) - 1}, the last, has no answer")
    return tuple(values)


def _frames_per_video(value: dict[str, Any]) -> int | None:
    count = value.get("num_frames_per_video")
    if count is None:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MAX_MEDIA:
        detail = f"num_frames_per_video is {_show(value, 'num_frames_per_video')}; it is 1 to {_MAX_MEDIA}"
        raise RecordError(RejectReason.BAD_RECORD, detail)
    return count


def _asks_about_image(question: str) -> bool:
    # where LLaVA puts the token; deeper inside a text it may be mark-up somebody asks about
    return question.startswith(f"{IMAGE_TOKEN}\n") or question.endswith(f"\n{IMAGE_TOKEN}")


def _digest(record_id: str, keys: tuple[str, ...], num_videos: int, values: tuple[str, ...]) -> str:
    text = json.dumps([record_id, keys, num_videos, values], ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        detail = f"text that UTF-8 can't hold (U+{ord(text[error.start]):04X}, half a surrogate pair)"
        raise RecordError(RejectReason.BAD_RECORD, detail) from None
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _show(value: dict[str, Any], name: str) -> str:
    if name not in value:
        return "not there"
    text = json.dumps(value[name], default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
