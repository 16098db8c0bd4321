"""Exact frames through PyAV: only the groups of pictures that hold a wanted frame are decoded.

Read the packet table; per group decode up to the last wanted frame, leaving out pictures that nothing
refers to; convert only wanted ones. Whatever looks odd on the way (a wanted time that never comes, a
start that is no key frame, an interlaced or damaged picture) sends the clip to the sequential path,
which decodes everything and is the definition of the result. One thread: parts run in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av.error
from av.video.reformatter import VideoReformatter

from weave_data.decode.decoder import ChooseFrames, DecodedClip, DecodedFrame, KeepFrame, RgbImage, T
from weave_data.decode.opening import open_container, read_packets, video_stream
from weave_data.decode.packets import PacketTable, Segment, read_packet_table
from weave_data.decode.picture import SWSCALE_EXACT, orient
from weave_data.errors import DecodeError

__all__ = ["PyavDecoder"]

_HELD_BYTES = 192 << 20  # of decoded pictures kept until it is known how many there are


class PyavDecoder:
    """`FrameDecoder` on FFmpeg as bundled with PyAV.

    Args:
        swscale_flags: Colour conversion; the default does not depend on the CPU.
        is_sparse: False decodes every clip in full, the reference of the sparse path.
    """

    def __init__(self, *, swscale_flags: int = SWSCALE_EXACT, is_sparse: bool = True) -> None:
        self.swscale_flags = swscale_flags
        self.is_sparse = is_sparse

    def decode(self, data: bytes, *, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T]:
        """See `FrameDecoder.decode`."""
        with open_container(data) as container:
            stream = video_stream(container)
            packets = read_packets(container, stream)
            reading = _Reading(stream, packets, self.swscale_flags)
            table = None
            if self.is_sparse:
                table = read_packet_table(
                    packets, container=container.format.name, codec=stream.codec_context
                )
            clip = reading.sparse(table, choose, keep) if table is not None else None
            return clip if clip is not None else reading.sequential(choose, keep)


class _Reading:
    """One open clip: its packets and the decoder they go through."""

    def __init__(self, stream: Any, packets: Sequence[Any], swscale_flags: int) -> None:
        self.context = stream.codec_context
        self.packets = packets
        self.time_base: Fraction = stream.time_base
        self.rate: Fraction = stream.average_rate or Fraction(25)
        self.swscale_flags = swscale_flags
        self.reformatter = VideoReformatter()

    def sparse(self, table: PacketTable, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T] | None:
        """Frames through the packet table; None when it turns out not to be trustworthy."""
        num_frames = len(table.shown_pts)
        first_pts = int(table.shown_pts[0])
        source_seconds = float((int(table.shown_pts[-1]) - first_pts) * self.time_base)
        indices = sorted(choose(num_frames, source_seconds))
        kept: dict[int, T] = {}
        wanted = {int(table.shown_pts[index]): index for index in indices}
        try:
            for segment in table.segments(indices):
                if not self._decode_segment(segment, table, wanted, keep, kept):
                    return None
        except MemoryError:
            raise
        except av.error.FFmpegError:
            return None  # real damage fails the sequential path too, and is reported from there
        finally:
            self._restart()
        frames = []
        for index in indices:
            seconds = float((int(table.shown_pts[index]) - first_pts) * self.time_base)
            frames.append(DecodedFrame(index, seconds, kept[index]))
        return DecodedClip(num_frames, source_seconds, tuple(frames))

    def _decode_segment(
        self,
        segment: Segment,
        table: PacketTable,
        wanted: dict[int, int],
        keep: KeepFrame[T],
        kept: dict[int, T],
    ) -> bool:
        """Decode one segment into `kept`, by index; False when a picture is not what the table promised."""
        self._restart()
        missing = set(segment.wanted_pts)
        start_pts = int(table.pts[segment.start])
        for frame in self._decode_range(segment, can_skip=table.can_skip):
            if frame.is_corrupt or frame.interlaced_frame:
                return False
            if frame.pts == start_pts and not frame.key_frame:
                return False
            if frame.pts in missing:
                missing.remove(frame.pts)
                index = wanted[frame.pts]
                kept[index] = keep(index, self._picture(frame))
        return not missing

    def _decode_range(self, segment: Segment, *, can_skip: bool) -> Iterator[Any]:
        for packet in self.packets[segment.start : segment.stop]:
            if can_skip:
                self.context.skip_frame = "DEFAULT" if packet.pts in segment.wanted_pts else "NONREF"
            yield from self.context.decode(packet)
        self.context.skip_frame = "DEFAULT"
        yield from self.context.decode(None)

    def sequential(self, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T]:
        """Frames of a full decode: how many there are decides which are wanted."""
        num_frames, source_seconds, held = self._count_frames()
        if num_frames == 0:
            raise DecodeError("no_frames", f"{len(self.packets)} packets gave no frame")
        wanted = set(choose(num_frames, source_seconds))
        frames: list[DecodedFrame[T]] = []
        first_pts: int | None = None
        for index, frame in enumerate(self._decode_all() if held is None else held):
            first_pts = frame.pts if index == 0 else first_pts
            if index in wanted:
                seconds = self._seconds(index, frame.pts, first_pts)
                frames.append(DecodedFrame(index, seconds, keep(index, self._picture(frame))))
            if len(frames) == len(wanted):
                break
        return DecodedClip(num_frames, source_seconds, tuple(frames))

    def _count_frames(self) -> tuple[int, float, list[Any] | None]:
        """How many frames a full decode presents, first to last in seconds, and the frames if small.

        Raises:
            DecodeError: A frame is shown before the one that comes ahead of it: no time of this clip is true.
        """
        num_frames, num_bytes = 0, 0
        first_pts, last_pts = None, None
        held: list[Any] | None = []
        for frame in self._decode_all():
            if None not in (frame.pts, last_pts) and frame.pts < last_pts:
                detail = f"frame {num_frames} is shown at pts {frame.pts}, the one before it at {last_pts}"
                raise DecodeError("corrupt", detail)
            first_pts, last_pts = (frame.pts if num_frames == 0 else first_pts), frame.pts
            num_frames += 1
            num_bytes += sum(plane.buffer_size for plane in frame.planes)
            if num_bytes > _HELD_BYTES:
                held = None  # they are decoded once more
            if held is not None:
                held.append(frame)
        source_seconds = self._seconds(max(0, num_frames - 1), last_pts, first_pts)
        return num_frames, max(0.0, source_seconds), held

    def _decode_all(self) -> Iterator[Any]:
        self._restart()
        try:
            for packet in (*self.packets, None):
                for frame in self.context.decode(packet):
                    if frame.is_corrupt:
                        raise DecodeError("corrupt", f"the picture shown at pts {frame.pts} is damaged")
                    yield frame
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            raise DecodeError("corrupt", f"a packet can't be decoded: {error.strerror}") from error

    def _restart(self) -> None:
        self.context.skip_frame = "DEFAULT"
        if self.context.is_open:
            self.context.flush_buffers()

    def _picture(self, frame: Any) -> RgbImage:
        try:
            converted = self.reformatter.reformat(
                frame, format="rgb24", interpolation=self.swscale_flags, threads=1
            )
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            raise DecodeError("corrupt", f"no conversion from {frame.format.name} to RGB") from error
        matrix = frame.side_data.get("DISPLAYMATRIX")
        rgb: Any = converted.to_ndarray()
        return orient(rgb, None if matrix is None else bytes(matrix))

    def _seconds(self, index: int, pts: int | None, first_pts: int | None) -> float:
        if pts is None or first_pts is None:
            return float(index / self.rate)
        return float((pts - first_pts) * self.time_base)
