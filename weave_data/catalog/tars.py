"""Index of a tar of samples: where each clip's bytes lie and what its caption is.

A sample is what shares a name up to its suffix: a video or an image, its caption in `.txt`, facts in
`.json`. Members may stand in any order. Only headers and texts are read: a window over the tar grows
while members are small and steps over videos where they are large.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from weave_data.catalog.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from weave_data.catalog.parts import LEADS_OUT
from weave_data.records import CLIP_SCHEMA, RejectReason
from weave_data.storage import SourceRoot

__all__ = ["TAR_ROW_SCHEMA", "index_tar"]

TAR_ROW_SCHEMA = pa.schema([*CLIP_SCHEMA, pa.field("reason", pa.string()), pa.field("detail", pa.string())])

_MAX_TEXT_BYTES = 1 << 20
_MIN_WINDOW_BYTES, _MAX_WINDOW_BYTES = 1 << 16, 8 << 20
_LICENCE_FIELDS = ("licence", "license", "LICENSE")
_VIDEOS, _IMAGES = frozenset(VIDEO_SUFFIXES), frozenset(IMAGE_SUFFIXES)


class RangedFile:
    """A file of a source as `tarfile` wants it, read through one window that adapts to the members."""

    def __init__(self, source: SourceRoot, key: str, size_bytes: int) -> None:
        self._source, self._key, self._size = source, key, size_bytes
        self._at = 0
        self._start, self._window = 0, b""
        self._ahead = _MIN_WINDOW_BYTES

    def tell(self) -> int:
        """Position."""
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        """Move; nothing is read."""
        self._at = position + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from the position on, fewer at the end of the file."""
        stop = self._size if size < 0 else min(self._at + size, self._size)
        if self._at >= stop:
            return b""
        if self._at < self._start or stop > self._start + len(self._window):
            self._load(stop)
        data = self._window[self._at - self._start : stop - self._start]
        self._at = stop
        return data

    def _load(self, stop: int) -> None:
        is_near = 0 <= self._at - (self._start + len(self._window)) < self._ahead
        self._ahead = min(self._ahead * 2, _MAX_WINDOW_BYTES) if is_near else _MIN_WINDOW_BYTES
        until = min(max(stop, self._at + self._ahead), self._size)
        self._start, self._window = self._at, self._source.read_range(self._key, self._at, until)


@dataclass
class _Sample:
    """Members of one name."""

    media: list[tuple[str, str, int, int]] = field(default_factory=list)  # suffix, member, offset, bytes
    text: bytes | None = None
    facts: bytes | None = None


def index_tar(source: SourceRoot, key: str, size_bytes: int) -> pa.Table:
    """Read what a tar holds.

    Args:
        source: The root of the tars.
        key: The tar.
        size_bytes: Its length, as listed.

    Returns:
        TAR_ROW_SCHEMA: one row per sample, by first mention, broken ones with their reason; one more row
        for the tar itself when it is damaged, so that clips which can't be seen don't go unnoticed.

    Source:
        video2dataset and img2dataset write such tars (WebDataset's layout); a json's `key`, `url`,
        `caption` and `licence` are used when they are there. Differs: the name ends at its last dot.
    """
    samples: dict[str, _Sample] = {}
    damage: tuple[RejectReason, str] | None = None
    if size_bytes == 0:
        damage = RejectReason.EMPTY_FILE, "0 bytes"
    else:
        file = RangedFile(source, key, size_bytes)
        try:
            damage = _gather(file, samples)
        except tarfile.TarError as error:
            damage = _damage(samples, size_bytes, error)
    rows = [row for name, sample in samples.items() for row in _rows(key, name, sample)]
    if damage is not None:
        rows.append(_row(key, key, reason=damage[0], detail=f"the tar: {damage[1]}"))
    return pa.Table.from_pylist(rows, schema=TAR_ROW_SCHEMA)


def _damage(samples: dict[str, _Sample], size_bytes: int, error: Exception) -> tuple[RejectReason, str]:
    if not samples:
        return RejectReason.CORRUPT, f"not a tar ({error})"
    return RejectReason.TRUNCATED, f"breaks off after {len(samples)} samples at byte {size_bytes} ({error})"


def _gather(file: RangedFile, samples: dict[str, _Sample]) -> tuple[RejectReason, str] | None:
    with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members = []  # tarfile keeps every header otherwise
            if member.isreg() and not member.issparse():
                _add(file, samples, member)
        end = tar.offset
    file.seek(end)
    block = file.read(512)
    if len(block) < 512:
        return RejectReason.TRUNCATED, f"breaks off after {len(samples)} samples, without an end mark"
    if block.strip(b"\0"):
        return RejectReason.CORRUPT, f"no header at byte {end}, after {len(samples)} samples"
    return None


def _add(file: RangedFile, samples: dict[str, _Sample], member: tarfile.TarInfo) -> None:
    path = member.name.removeprefix("./")
    name, dot, suffix = path.rpartition(".")
    suffix = suffix.lower()
    if not dot or name.rpartition("/")[2].startswith("."):
        return
    if suffix in _VIDEOS or suffix in _IMAGES:
        place = (suffix, path, member.offset_data, member.size)
        samples.setdefault(name, _Sample()).media.append(place)
    elif suffix in ("txt", "json"):
        sample = samples.setdefault(name, _Sample())
        file.seek(member.offset_data)
        data = file.read(min(member.size, _MAX_TEXT_BYTES))
        if suffix == "txt":
            sample.text = data
        else:
            sample.facts = data


def _rows(tar_key: str, name: str, sample: _Sample) -> Iterator[dict[str, Any]]:
    try:
        facts = _facts(sample.facts)
        caption = _caption(sample.text, facts)
    except ValueError as error:
        yield _row(name, f"{tar_key}/{name}", reason=RejectReason.BAD_RECORD, detail=str(error))
        return
    # ids are used in names of files
    clip_id = re.sub(r"[^\w.-]+", "_", _text(facts, "key") or name).lstrip(".") or name
    if not sample.media:
        detail = "no video or image of this name in the tar"
        yield _row(clip_id, f"{tar_key}/{name}", reason=RejectReason.MISSING, detail=detail)
    # a thumbnail beside a video belongs to it; two videos of one name are two rows of one id
    videos = [place for place in sample.media if place[0] in _VIDEOS]
    for suffix, member, offset, size_bytes in videos or sample.media:
        row = _row(clip_id, f"{tar_key}/{member}")
        row |= {"caption": caption, "size_bytes": size_bytes, "offset": offset, "page": _text(facts, "url")}
        row["media"] = "video" if suffix in _VIDEOS else "image"
        row["licence"] = next(filter(None, (_text(facts, name) for name in _LICENCE_FIELDS)), "")
        if re.search(LEADS_OUT, member):
            row |= {"reason": RejectReason.MISSING.value, "detail": "its name leads out of the tar"}
        elif not caption.strip():
            row |= {"reason": RejectReason.EMPTY_CAPTION.value, "detail": "no text in .txt or json's caption"}
        yield row


def _row(clip_id: str, key: str, *, reason: RejectReason | None = None, detail: str = "") -> dict[str, Any]:
    values = {"clip_id": clip_id, "key": key, "caption": "", "size_bytes": -1, "offset": -1}
    given = {"reason": reason and reason.value, "detail": detail if reason else None}
    return {**values, "media": "video", "page": "", "licence": "", **given}


def _facts(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {}
    try:
        facts = json.loads(data)
    except ValueError as error:
        raise ValueError(f"its .json is not JSON ({error})"[:200]) from error
    if not isinstance(facts, dict):
        raise ValueError(f"its .json holds {type(facts).__name__}, an object is needed")
    return facts


def _caption(text: bytes | None, facts: dict[str, Any]) -> str:
    try:
        found = (text or b"").decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"its .txt is not UTF-8 (byte {error.start})") from error
    if not found and not isinstance(facts.get("caption"), (str, type(None))):
        raise ValueError(f"its .json's caption is {type(facts['caption']).__name__}, a text is needed")
    return found or _text(facts, "caption")


def _text(facts: dict[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str):
        return ""
    return value.encode(errors="replace").decode().strip()  # JSON may hold halves of surrogate pairs
