"""decord behind the same protocol: for comparison and for builds that must match older data.

Unmaintained since 2021. It gives other frames than asked after a seek in open-GOP and intra-refresh
H.264, HEVC with leading pictures, MPEG-4 with B-frames and transport streams; it knows no AV1, counts
packets rather than presented frames under edit lists, hides damage, and its colour conversion depends
on the CPU. It would follow playlists to other hosts, so the container is checked first.
"""

from __future__ import annotations

import io

import decord

from weave_data.decode.decoder import ChooseFrames, DecodedClip, DecodedFrame, KeepFrame, T
from weave_data.decode.opening import open_container, read_packets, video_stream
from weave_data.errors import DecodeError

__all__ = ["DecordDecoder"]


class DecordDecoder:
    """`FrameDecoder` on decord's `VideoReader`, one thread."""

    def decode(self, data: bytes, *, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T]:
        """See `FrameDecoder.decode`."""
        with open_container(data) as container:
            stream = video_stream(container)
            codec = stream.codec_context.codec.canonical_name
            read_packets(container, stream)
        # decord's messages hold times and addresses: they would make equal rejects unequal bytes
        try:
            reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        except (RuntimeError, decord.DECORDError) as error:
            raise DecodeError("corrupt", f"decord can't open the {codec} stream") from error
        num_frames = len(reader)
        if num_frames == 0:
            raise DecodeError("no_frames", "decord counts 0 frames")
        frames = []
        try:
            first = float(reader.get_frame_timestamp(0)[0])
            source_seconds = max(0.0, float(reader.get_frame_timestamp(num_frames - 1)[0]) - first)
            for index in sorted(choose(num_frames, source_seconds)):
                kept = keep(index, reader[index].asnumpy())
                seconds = float(reader.get_frame_timestamp(index)[0]) - first
                frames.append(DecodedFrame(index, seconds, kept))
        except (RuntimeError, decord.DECORDError) as error:
            raise DecodeError("corrupt", f"decord can't decode the {codec} stream") from error
        return DecodedClip(num_frames, source_seconds, tuple(frames))
