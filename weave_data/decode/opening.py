"""Open a clip's container, whatever decodes it afterwards, and say what is wrong when it is none."""

from __future__ import annotations

import io
from typing import Any

import av
import av.error

from weave_data.decode.container import check_promised_bytes
from weave_data.errors import DecodeError

__all__ = ["open_container", "read_packets", "video_stream"]

# playlists and concat scripts would make libavformat open other files and hosts; images are no clips
_OPTIONS = {
    "format_whitelist": "3gp,aac,asf,avi,flac,flv,gif,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,wav,webm",
    "protocol_whitelist": "none",
}


def open_container(data: bytes) -> Any:
    """Open a clip held in memory, an `av.container.InputContainer`.

    Raises:
        DecodeError: `empty_file`, `truncated`, `not_a_video` or `no_frames`.
    """
    check_promised_bytes(data)
    try:
        return av.open(io.BytesIO(data), metadata_errors="ignore", options=_OPTIONS)
    except MemoryError:
        raise
    except av.error.EOFError as error:
        raise DecodeError("no_frames", "the container ends after its header") from error
    except av.error.FFmpegError as error:
        raise DecodeError(
            "not_a_video", f"{len(data)} bytes that no container reader accepts: {error.strerror}"
        ) from error


def video_stream(container: Any) -> Any:
    """The stream that players show, set to decode on one thread.

    Raises:
        DecodeError: `no_video_stream` (cover art is none), or `corrupt` without a decoder for it.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & stream.disposition.attached_pic:
        kinds = sorted(stream.type for stream in container.streams)
        raise DecodeError("no_video_stream", f"streams: {', '.join(kinds) or 'none'}")
    if stream.codec_context is None:
        raise DecodeError("corrupt", "this build has no decoder for the video stream")
    stream.codec_context.thread_count = 1
    return stream


def read_packets(container: Any, stream: Any) -> list[Any]:
    """The stream's packets that have content, in decode order.

    Raises:
        DecodeError: `truncated` where reading stops early, `no_frames` without any packet.
    """
    packets: list[Any] = []
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DecodeError("truncated", f"packet {len(packets)} is incomplete")
            if packet.size:
                packets.append(packet)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise DecodeError(
            "truncated", f"reading stops after {len(packets)} packets: {error.strerror}"
        ) from error
    if not packets:
        raise DecodeError("no_frames", "the video stream has no packets")
    return packets
