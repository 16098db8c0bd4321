"""From the clips that lack frames to finished layers on local scratch.

Clips are fetched a few ahead of the decoder and go into the tar in catalog order, so a layer's bytes
do not depend on which clip was fast. A layer that grows past the limit of one object is cut.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from weave_data.decode.frame_tar import FrameTarWriter, member_name
from weave_data.decode.isolation import IsolatedDecoder, LostClipError
from weave_data.decode.job import ClipFrames, ClipJob
from weave_data.decode.layers import LAYER_SCHEMA, Layer, LayerRequest
from weave_data.errors import DecodeError, StoreError
from weave_data.records import RejectReason, StageCount, rejects_table
from weave_data.storage import SourceRoot

__all__ = ["BuiltLayer", "ClipTask", "LayerBuilder", "decode_tasks"]

_TAR_ENDING = ".tar/"
_MAX_OPEN_CLIPS = 100  # a source that answers nothing must not be asked for every clip


@dataclass(frozen=True)
class ClipTask:
    """A clip to decode; the frames at `stored` are there already, of bytes with that `sha256`, where known.

    `offset` is its first byte in the tar that `key` begins with, -1 for an object of its own.
    """

    clip_id: str
    key: str
    size_bytes: int
    offset: int = -1
    media: str = "video"
    stored: tuple[int, ...] = ()
    measure: bool = True
    sha256: str | None = None

    def read(self, source: SourceRoot) -> bytes:
        """Fetch the clip's bytes with one GET.

        Raises:
            StoreError: They are not there, or the store refused or could not be reached.
        """
        if self.offset < 0:
            return source.read(self.key)
        tar, ending, _ = self.key.partition(_TAR_ENDING)
        return source.read_range(tar + ending[:-1], self.offset, self.offset + self.size_bytes)


@dataclass(frozen=True)
class BuiltLayer:
    """A layer ready to be committed, its tar on local scratch."""

    layer: Layer
    tar_path: Path


class LayerBuilder:
    """Collects decoded and rejected clips, in order, into one layer or several.

    Args:
        part: Name of the part.
        wanted: What is asked of every clip.
        tasks: All clips that will come, for the layers' names.
        folder: Where the tars are spooled.
        max_tar_bytes: A tar past this size is the last piece's; the next clip starts a new one.
    """

    def __init__(
        self, part: str, wanted: LayerRequest, tasks: Sequence[ClipTask], folder: Path, max_tar_bytes: int
    ) -> None:
        self._part = part
        self._wanted = wanted
        self._folder = folder
        self._max_tar_bytes = max_tar_bytes
        self._request = self._request_for([task.clip_id for task in tasks])
        self._stored = {task.clip_id: task.stored for task in tasks if task.stored}
        self._built: list[BuiltLayer] = []
        self._begin()

    def job(self, task: ClipTask) -> ClipJob:
        """What the decoder is asked for."""
        return ClipJob(self._wanted.asks, task.stored, task.media, task.measure)

    def add_frames(self, task: ClipTask, clip: ClipFrames) -> None:
        """Store a clip's frames, contiguous, in the order given."""
        offsets = [
            self._tar.add(member_name(task.clip_id, index, clip.suffix), data)
            for index, _, data in clip.frames
        ]
        row = {
            "clip_id": task.clip_id,
            "source_frames": clip.source_frames,
            "source_seconds": clip.source_seconds,
            "width": clip.width,
            "height": clip.height,
            "frame_index": [index for index, _, _ in clip.frames],
            "frame_seconds": [seconds for _, seconds, _ in clip.frames],
            "frame_offset": offsets,
            "frame_bytes": [len(data) for _, _, data in clip.frames],
            "quality": clip.quality,
        }
        self._rows.append(row)
        if self._tar.num_bytes > self._max_tar_bytes:
            self._end()
            self._begin()

    def add_reject(self, task: ClipTask, error: DecodeError) -> None:
        """Note that a clip's content was refused."""
        self._rejects.append(
            {
                "stage": "decode",
                "part": self._part,
                "recipe": None,
                "clip_id": task.clip_id,
                "key": task.key,
                "reason": RejectReason(error.reason).value,
                "detail": error.detail,
            }
        )

    def finish(self) -> list[BuiltLayer]:
        """Close the last piece and return all of them."""
        if self._rows or self._rejects:
            self._end()
        return self._built

    def _begin(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._rejects: list[dict[str, Any]] = []
        self._tar = FrameTarWriter(self._folder / f"{len(self._built)}.tar")

    def _end(self) -> None:
        tar_sha256 = self._tar.close()
        rejected = Counter(row["reason"] for row in self._rejects)
        num_in = len(self._rows) + len(self._rejects)
        layer = Layer(
            name=Layer.name_for(self._request, self._stored, len(self._built)),
            request=self._request_for([row["clip_id"] for row in (*self._rows, *self._rejects)]),
            index=pa.Table.from_pylist(self._rows, schema=LAYER_SCHEMA),
            rejects=rejects_table(self._rejects),
            count=StageCount("decode", num_in, len(self._rows), rejected=dict(rejected)),
            tar_sha256=tar_sha256,
        )
        self._built.append(BuiltLayer(layer, self._tar.path))

    def _request_for(self, clip_ids: Sequence[str]) -> LayerRequest:
        return self._wanted.only(clip_ids)


def decode_tasks(
    tasks: Sequence[ClipTask],
    builder: LayerBuilder,
    *,
    source: SourceRoot,
    decoder: IsolatedDecoder,
    prefetch_clips: int,
) -> list[tuple[str, str]]:
    """Decode every task into the builder.

    Returns:
        (clip id, `reason: detail`) of clips that a circumstance kept from being decoded; when there
        is one the builder's content is of no use.

    Raises:
        StoreError: The source refused the credentials.
    """
    lost = []
    for task, data in _fetch_ahead(tasks, source, prefetch_clips):
        try:
            clip = decoder.decode(_checked(task, data, source), builder.job(task))
            builder.add_frames(task, clip)
        except DecodeError as error:
            builder.add_reject(task, error)
        except LostClipError as error:
            lost.append((task.clip_id, str(error)))
        if len(lost) >= _MAX_OPEN_CLIPS:
            break
    return lost


def _fetch_ahead(
    tasks: Sequence[ClipTask], source: SourceRoot, num_ahead: int
) -> Iterator[tuple[ClipTask, Future[bytes]]]:
    """The tasks in order, each with its bytes under way; at most `num_ahead` are in memory."""
    with ThreadPoolExecutor(max(1, num_ahead)) as pool:
        waiting: deque[tuple[ClipTask, Future[bytes]]] = deque()
        coming = iter(tasks)
        try:
            while True:
                while len(waiting) <= num_ahead and (task := next(coming, None)) is not None:
                    waiting.append((task, pool.submit(task.read, source)))
                if not waiting:
                    return
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


def _checked(task: ClipTask, fetched: Future[bytes], source: SourceRoot) -> bytes:
    """The clip's bytes as the catalog knows them; a read that failed is tried once more.

    Raises:
        LostClipError: The source failed twice, or holds other bytes than when it was listed.
        StoreError: It refused the credentials, as it would for every other clip.
    """
    try:
        try:
            data = fetched.result()
        except StoreError as error:
            if error.is_refusal:
                raise
            data = task.read(source)
    except StoreError as error:
        if error.is_refusal:
            raise
        is_gone = isinstance(error.__cause__, FileNotFoundError)
        reason = RejectReason.SOURCE_CHANGED if is_gone else RejectReason.STORE_ERROR
        raise LostClipError(reason, str(error)) from error
    if len(data) != task.size_bytes:
        detail = f"{len(data)} bytes, {task.size_bytes} when the catalog was made"
        raise LostClipError(RejectReason.SOURCE_CHANGED, detail)
    if task.sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != task.sha256:
        detail = f"sha256 {found}, {task.sha256} when frames of it were stored"
        raise LostClipError(RejectReason.SOURCE_CHANGED, detail)
    return data
