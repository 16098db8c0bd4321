"""The child process: decodes one clip after another for its parent, so that a crash costs one clip.

    python -m weave_data.decode.worker FD SETTINGS_JSON

Messages go over one socket: a JSON header, then the bytes it announces. Nothing that the child says
is unpickled. It imports no pyarrow, torch or ray, and dies with its parent.

    parent -> child   `ClipJob.to_json`, the clip's bytes
    child -> parent   {"ready"} | {"fatal": text} once, then per clip
                      {"clip": {...}}, all frames | {"rejected": [reason, detail]} | {"failed": detail}
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weave_data.decode.decoder import FrameDecoder, RgbImage, load_decoder
from weave_data.decode.images import read_image
from weave_data.decode.job import ClipFrames, ClipJob, PictureFormat
from weave_data.decode.measures import MEASURED, ClipMeasures
from weave_data.decode.picture import encode_picture, fit_short_side
from weave_data.decode.selection import wanted_indices
from weave_data.errors import DecodeError, DeviceError

__all__ = ["decode_clip", "main"]

_PR_SET_PDEATHSIG = 1


def decode_clip(decoder: FrameDecoder, data: bytes, job: ClipJob, picture: PictureFormat) -> ClipFrames:
    """Decode, resize and compress the frames of one video that are not stored yet.

    Args:
        decoder: Which decoder.
        data: The clip's bytes.
        job: Which frames.
        picture: Size and format of the stored frames.

    Raises:
        DecodeError: The clip's content can't give its frames.
    """
    clip = _Taking(job, picture)
    decoded = decoder.decode(data, choose=clip.choose, keep=clip.keep)
    if clip.size is None or clip.source_size is None:
        raise DecodeError("no_frames", "the decoder gave no picture")
    by_index = {frame.index: frame for frame in decoded.frames}
    frames = tuple((index, by_index[index].seconds, by_index[index].kept) for index in clip.order)
    quality = None
    if job.measure:
        counts = decoded.num_source_frames, decoded.source_seconds
        quality = clip.measures.result(data, *counts, size=clip.source_size)
    return ClipFrames(
        source_frames=decoded.num_source_frames,
        source_seconds=decoded.source_seconds,
        width=clip.size[0],
        height=clip.size[1],
        frames=frames,
        suffix="png" if picture.format == "png" else "jpg",
        quality=quality,
    )


class _Taking:
    """What is done with the pictures of one clip as they come, in ascending order."""

    def __init__(self, job: ClipJob, picture: PictureFormat) -> None:
        self._job = job
        self._picture = picture
        self._begin([], [])

    def _begin(self, order: list[int], measured: list[int]) -> None:
        self.order = order
        self.size: tuple[int, int] | None = None  # the first frame decides the size of all
        self.source_size: tuple[int, int] | None = None
        self.measures = ClipMeasures()
        self._kept, self._measured = frozenset(order), frozenset(measured)

    def choose(self, num_frames: int, source_seconds: float) -> Sequence[int]:
        """Indices to decode; a decoder that asks again starts again."""
        wanted = wanted_indices(num_frames, source_seconds, self._job.asks)
        measured = wanted_indices(num_frames, source_seconds, [MEASURED]) if self._job.measure else []
        self._begin([index for index in wanted if index not in self._job.stored], measured)
        return sorted({0, *self.order, *measured})

    def keep(self, index: int, rgb: RgbImage) -> bytes:
        """The frame as it is stored; empty for one that was only looked at."""
        if self.size is None:
            self.source_size = (rgb.shape[1], rgb.shape[0])
            self.size = fit_short_side(*self.source_size, short_side_px=self._picture.short_side_px)
        image = Image.fromarray(np.ascontiguousarray(rgb))  # once: it copies
        if index in self._measured:
            self.measures.add(image)
        return encode_picture(image, size=self.size, picture=self._picture) if index in self._kept else b""


def main(arguments: Sequence[str]) -> None:
    """Serve the parent until it closes the connection."""
    _prepare_process()
    connection = Connection(int(arguments[0]))
    settings = json.loads(arguments[1])
    picture = PictureFormat(**settings["picture"])
    try:
        decoder = load_decoder(settings["decoder"])
    except DeviceError as error:
        _send(connection, {"fatal": str(error)})
        return
    _send(connection, {"ready": True})
    while True:
        try:
            job = ClipJob.from_json(json.loads(connection.recv_bytes()))
            data = connection.recv_bytes()
        except EOFError:
            return
        header, blob = _answer(decoder, data, job, picture)
        _send(connection, header)
        if "clip" in header:
            connection.send_bytes(blob)


def _answer(
    decoder: FrameDecoder, data: bytes, job: ClipJob, picture: PictureFormat
) -> tuple[dict[str, Any], bytes]:
    is_image = job.media == "image"
    try:
        clip = read_image(data, job) if is_image else decode_clip(decoder, data, job, picture)
    except DecodeError as error:
        return {"rejected": [error.reason, error.detail]}, b""
    except MemoryError as error:
        return {"failed": f"out of memory: {error}"}, b""
    except Exception as error:  # noqa: BLE001 - the edge where one bad clip becomes a reject
        # the name only: messages hold addresses, and rejects are committed bytes
        reason = "not_an_image" if is_image else "corrupt"
        return {"rejected": [reason, f"the decoder raised {type(error).__name__}"]}, b""
    header, blob = clip.to_message()
    return {"clip": header}, blob


def _send(connection: Connection, header: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(header).encode())


def _prepare_process() -> None:
    """Die with the parent, leave no core dump, keep libraries' chatter off the parent's terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000")  # a machine out of memory ends this one first
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


if __name__ == "__main__":
    main(sys.argv[1:])
