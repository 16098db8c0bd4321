"""Open a clip's container, whatever decodes it afterwards, and say what is wrong when it is none."""

from __future__ import annotations

import io
import mmap
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
    "max_streams": "250",  # each costs a decoder and its pictures while the container is looked at
}
_LARGEST_ALLOCATION = (1 << 31) - 1  # FFmpeg refuses more than this at once, wherever it runs

_PACKET_BYTES = 4  # what any container keeps of a packet besides its content
_SLACK_BYTES = 1 << 16  # containers may leave out bytes that all packets begin with


def open_container(data: bytes) -> Any:
    """Open a clip held in memory, an `av.container.InputContainer`.

    Raises:
        DecodeError: `empty_file`, `truncated`, `not_a_video` or `no_frames`.
    """
    check_promised_bytes(data)
    try:
        return av.open(io.BytesIO(data), metadata_errors="ignore", options=_OPTIONS)
    except MemoryError as error:
        if not _has_memory():
            raise
        raise DecodeError(
            "not_a_video", f"more than {_OPTIONS['max_streams']} streams, or tables no reader allocates"
        ) from error
    except av.error.EOFError as error:
        raise DecodeError("no_frames", "the container ends after its header") from error
    except av.error.FFmpegError as error:
        raise DecodeError(
            "not_a_video", f"{len(data)} bytes that no container reader accepts: {error.strerror}"
        ) from error


def _has_memory() -> bool:
    """Whether this process could have had what FFmpeg says it could not: then a limit of its own spoke."""
    try:
        mmap.mmap(-1, _LARGEST_ALLOCATION).close()
    except OSError:
        return False
    return True


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
        DecodeError: `truncated` where reading stops early, `no_frames` without any packet, `corrupt` where
            the packets hold twice the file: tables that name the same bytes again and again.
    """
    packets: list[Any] = []
    num_bytes, most_bytes = 0, 2 * container.size + _SLACK_BYTES
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise DecodeError("truncated", f"packet {len(packets)} is incomplete")
            if packet.size:
                packets.append(packet)
                num_bytes += packet.size + _PACKET_BYTES
            if num_bytes > most_bytes:
                detail = f"the first {len(packets)} packets take {num_bytes} bytes of {container.size}"
                raise DecodeError("corrupt", detail)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise DecodeError(
            "truncated", f"reading stops after {len(packets)} packets: {error.strerror}"
        ) from error
    if not packets:
        raise DecodeError("no_frames", "the video stream has no packets")
    return packets
