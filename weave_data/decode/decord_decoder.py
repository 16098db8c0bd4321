"""decord behind the same protocol: for comparison and for builds that must match older data.

Unmaintained since 2021. It knows no AV1, counts packets rather than presented frames under edit
lists, and its colour conversion depends on the CPU: bytes are stable on one kind of machine only.
"""

from __future__ import annotations

import io

import decord

from weave_data.decode.container import check_promised_bytes
from weave_data.decode.decoder import ChooseFrames, DecodedClip, DecodedFrame, KeepFrame, T
from weave_data.errors import DecodeError

__all__ = ["DecordDecoder"]


class DecordDecoder:
    """`FrameDecoder` on decord's `VideoReader`, one thread."""

    def decode(self, data: bytes, *, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T]:
        """See `FrameDecoder.decode`."""
        check_promised_bytes(data)
        reader = _open(data)
        num_frames = len(reader)
        if num_frames == 0:
            raise DecodeError("no_frames", "decord counts 0 frames")
        frames = []
        try:
            first = float(reader.get_frame_timestamp(0)[0])
            for index in sorted(choose(num_frames)):
                kept = keep(reader[index].asnumpy())
                seconds = float(reader.get_frame_timestamp(index)[0]) - first
                frames.append(DecodedFrame(index, seconds, kept))
        except decord.DECORDError as error:
            raise DecodeError("corrupt", f"decord: {_first_line(error)}") from error
        return DecodedClip(num_frames, tuple(frames))


def _open(data: bytes) -> decord.VideoReader:
    try:
        return decord.VideoReader(io.BytesIO(data), num_threads=1)
    except decord.DECORDError as error:
        message = str(error)
        if "cannot find video stream" in message or "st_nb >= 0" in message:
            raise DecodeError("no_video_stream", f"decord: {_first_line(error)}") from error
        raise DecodeError("not_a_video", f"decord: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
