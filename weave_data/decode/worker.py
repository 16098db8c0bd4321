"""The child process: decodes one clip after another for its parent, so that a crash costs one clip.

    python -m weave_data.decode.worker FD SETTINGS_JSON

Messages go over one socket: a JSON header, then the bytes it announces. Nothing that the child says
is unpickled. It imports no pyarrow, torch or ray, and dies with its parent.

    parent -> child   {"frame_counts", "embedding_frames", "stored"}, the clip's bytes
    child -> parent   {"ready"} | {"fatal": text} once, then per clip
                      {"clip": {...}}, all JPEGs | {"rejected": [reason, detail]} | {"failed": detail}
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
from typing import Any

from weave_data.decode.decoder import FrameDecoder, RgbImage, load_decoder
from weave_data.decode.picture import encode_jpeg, fit_short_side
from weave_data.decode.selection import wanted_indices
from weave_data.errors import DecodeError, DeviceError

__all__ = ["decode_clip", "main"]

_PR_SET_PDEATHSIG = 1


def decode_clip(
    decoder: FrameDecoder, data: bytes, job: dict[str, Any], *, short_side_px: int, quality: int
) -> tuple[dict[str, Any], list[bytes]]:
    """Decode, resize and compress the frames of one clip that are not stored yet.

    Args:
        decoder: Which decoder.
        data: The clip's bytes.
        job: `frame_counts` and `embedding_frames` choose the frames, `stored` are left out.
        short_side_px: Of the stored frames; smaller pictures keep their size.
        quality: JPEG quality.

    Returns:
        `{"source_frames", "width", "height", "frames": [[index, seconds], ...]}` in stored order, and
        the JPEGs in the same order.

    Raises:
        DecodeError: The clip's content can't give its frames.
    """
    order: list[int] = []
    size: tuple[int, int] | None = None

    def choose(num_frames: int) -> Sequence[int]:
        nonlocal size
        size = None  # a decoder that asks again starts again
        wanted = wanted_indices(
            num_frames, frame_counts=job["frame_counts"], embedding_frames=job["embedding_frames"]
        )
        order[:] = [index for index in wanted if index not in stored]
        return sorted({0, *order})  # the first frame decides the size of all

    def keep(rgb: RgbImage) -> bytes:
        nonlocal size
        if size is None:
            size = fit_short_side(rgb.shape[1], rgb.shape[0], short_side_px=short_side_px)
        return encode_jpeg(rgb, size=size, quality=quality)

    stored = frozenset(job["stored"])
    clip = decoder.decode(data, choose=choose, keep=keep)
    if size is None:
        raise DecodeError("no_frames", "the decoder gave no picture")
    by_index = {frame.index: frame for frame in clip.frames}
    frames = [[index, by_index[index].seconds] for index in order]
    described = {"source_frames": clip.num_source_frames, "width": size[0], "height": size[1]}
    return {**described, "frames": frames}, [by_index[index].kept for index in order]


def main(arguments: Sequence[str]) -> None:
    """Serve the parent until it closes the connection."""
    _prepare_process()
    connection = Connection(int(arguments[0]))
    settings = json.loads(arguments[1])
    try:
        decoder = load_decoder(settings["decoder"])
    except DeviceError as error:
        _send(connection, {"fatal": str(error)})
        return
    _send(connection, {"ready": True})
    while True:
        try:
            job = json.loads(connection.recv_bytes())
            data = connection.recv_bytes()
        except EOFError:
            return
        header, blob = _answer(decoder, data, job, settings)
        _send(connection, header)
        if "clip" in header:
            connection.send_bytes(blob)


def _answer(
    decoder: FrameDecoder, data: bytes, job: dict[str, Any], settings: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    try:
        clip, jpegs = decode_clip(
            decoder, data, job, short_side_px=settings["short_side_px"], quality=settings["quality"]
        )
    except DecodeError as error:
        return {"rejected": [error.reason, error.detail]}, b""
    except MemoryError as error:
        return {"failed": f"out of memory: {error}"}, b""
    except Exception as error:  # noqa: BLE001 - the edge where one bad clip becomes a reject
        # the name only: messages hold addresses, and rejects are committed bytes
        return {"rejected": ["corrupt", f"the decoder raised {type(error).__name__}"]}, b""
    clip["sizes"] = [len(jpeg) for jpeg in jpegs]
    return {"clip": clip}, b"".join(jpegs)


def _send(connection: Connection, header: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(header).encode())


def _prepare_process() -> None:
    """Die with the parent, leave no core dump, keep libraries' chatter off the parent's terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


if __name__ == "__main__":
    main(sys.argv[1:])
