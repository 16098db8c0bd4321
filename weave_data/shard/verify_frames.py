"""Check the frames that a reference shard points at: each address is one whole member of its tar.

Inline shards have one sum over everything. A reference shard's sum covers its addresses only, so the
tars are summed too and compared with what their index says, and every address must begin right after the
tar header of that very frame. A tar that is gone is named once a shard, with the samples that lose by it.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.shard.addresses import FramePlaces
from weave_data.shard.gather import plan_ranges
from weave_data.shard.images import image_problem, load_image
from weave_data.shard.reference import places_of
from weave_data.storage import ObjectInfo, Store

__all__ = ["FrameTars", "decode_problem", "reference_problems"]

_HEADER_BYTES = 512
_READ_BLOCK_BYTES = 16 << 20
_INDEX_METADATA = b"weave_layer"  # where the index beside a tar keeps the tar's sum


class FrameTars:
    """The frame tars of an output that reference shards point into, looked up once each; thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._seen: dict[str, ObjectInfo | None] = {}
        self._unsummed: set[str] = set()

    def find(self, key: str) -> ObjectInfo | None:
        """The tar as it lies there; None when it is missing."""
        with self._lock:
            if key in self._seen:
                return self._seen[key]
        info = self.store.head(key)
        with self._lock:
            self._seen[key] = info
        return info

    def seen(self) -> list[str]:
        """Keys of the tars that are there, sorted."""
        return sorted(key for key, info in self._seen.items() if info is not None)

    def sum_problems(self, key: str) -> list[str]:
        """What is wrong with a tar as a whole: its bytes against the sum that its index holds."""
        promised = self._promised_sha256(key)
        info = self._seen[key]
        if promised is None or info is None:
            with self._lock:
                self._unsummed.add(key)
            return []
        digest = hashlib.sha256()
        for start in range(0, info.size_bytes, _READ_BLOCK_BYTES):
            stop = min(start + _READ_BLOCK_BYTES, info.size_bytes)
            digest.update(self.store.get_range(key, start, stop))
        if digest.hexdigest() == promised:
            return []
        return [f"{key}: stored bytes have sha256 {digest.hexdigest()}, its index says {promised}"]

    def notes(self) -> list[str]:
        """Tars whose sum nobody knows any more."""
        if not self._unsummed:
            return []
        first = min(self._unsummed)
        count = len(self._unsummed)
        return [f"{count} frame tars have no index to compare their sums with, the first is {first}"]

    def _promised_sha256(self, key: str) -> str | None:
        index = key.removesuffix(".tar") + ".parquet"
        if self.store.head(index) is None:
            return None
        metadata = pq.read_schema(pa.BufferReader(self.store.get(index))).metadata or {}
        promised = json.loads(metadata.get(_INDEX_METADATA, b"{}")).get("tar_sha256")
        return None if promised is None else str(promised)


def reference_problems(table: pa.Table, tars: FrameTars, *, decode: bool) -> Iterator[str]:
    """What is wrong with the frames of some reference rows.

    Args:
        table: Rows of `reference.REFERENCE_SCHEMA`, lists of equal lengths.
        tars: The tars of the output.
        decode: Also decode every frame.
    """
    places = places_of(table)
    ids = table["sample_id"].to_pylist()
    rows = np.repeat(np.arange(table.num_rows), np.diff(places.row_offsets))
    sizes = np.zeros(len(places.tars), np.int64)
    for code, key in enumerate(places.tars):
        info = tars.find(key)
        lost = np.unique(rows[places.tar_code == code])
        if info is None and len(lost):
            yield (
                f"{key} is missing: {len(lost)} samples have frames in it, the first is {ids[lost[0]]}; "
                "build again to restore it, or remove the recipe"
            )
        sizes[code] = -1 if info is None else info.size_bytes
    stops = places.offset + places.size_bytes
    is_outside = (sizes[places.tar_code] >= 0) & (stops > sizes[places.tar_code])
    for frame in np.flatnonzero(is_outside).tolist():
        yield f"sample {ids[rows[frame]]}: {places.describe(frame)}: beyond the tar's end"
    readable = np.flatnonzero((stops <= sizes[places.tar_code]) & (places.offset >= _HEADER_BYTES))
    for frame, header, data in _members(places, readable, tars.store):
        position = frame - int(places.row_offsets[rows[frame]])
        row = int(rows[frame])
        size = (int(places.width[row]), int(places.height[row])) if position == 0 else None
        problem = _member_problem(header, data, int(places.frame_index[frame]))
        if problem is None and decode:
            problem = decode_problem(data, size)
        if problem is not None:
            yield f"sample {ids[row]}: frame {position} {problem} ({places.describe(frame)})"


def _members(
    places: FramePlaces, frames: np.ndarray[tuple[int], np.dtype[np.int64]], store: Store
) -> Iterator[tuple[int, bytes, bytes]]:
    """Header and data of each frame, neighbours read together."""
    widened = FramePlaces(
        row_offsets=np.array([0, len(frames)]),
        tar_code=places.tar_code[frames],
        tars=places.tars,
        offset=places.offset[frames] - _HEADER_BYTES,
        size_bytes=places.size_bytes[frames] + _HEADER_BYTES,
        seconds=places.seconds[frames],
        width=places.width,
        height=places.height,
        clip_id=places.clip_id.take(pa.array(frames)),
        frame_index=places.frame_index[frames],
    )
    ranges = plan_ranges(widened, 0, len(frames))
    by_range = np.argsort(ranges.range_of, kind="stable")
    current, block = -1, b""
    for position in by_range.tolist():
        piece = int(ranges.range_of[position])
        if piece != current:
            start, stop = int(ranges.starts[piece]), int(ranges.stops[piece])
            block = store.get_range(ranges.tars[piece], start, stop)
            current = piece
        start = int(widened.offset[position] - ranges.starts[piece])
        member = block[start : start + int(widened.size_bytes[position])]
        yield int(frames[position]), member[:_HEADER_BYTES], member[_HEADER_BYTES:]


def _member_problem(header: bytes, data: bytes, frame_index: int) -> str | None:
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        return f"does not begin a member of its tar ({error})"
    if member.size != len(data):
        return f"has {len(data)} bytes, the tar's member {member.name} has {member.size}"
    stem = member.name.rpartition("/")[2].partition(".")[0]
    if stem.isdecimal() and int(stem) != frame_index:
        return f"is the tar's member {member.name}"
    return image_problem(data)


def decode_problem(data: bytes, size: tuple[int, int] | None) -> str | None:
    """Why a picture can't be shown, or is not of the size promised; None when all is well.

    Args:
        data: JPEG, PNG, WebP or GIF; of an animation the first picture.
        size: Width and height in px, or None to accept any.
    """
    try:
        found = load_image(data).size
    except ValueError as error:
        return f"does not decode ({error})"
    return None if size in (None, found) else f"is {found}, width and height say {size}"
