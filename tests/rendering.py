"""Render small test videos of any codec whose truth is burned into the pixels.

Every frame carries its number as a bar code (12 bits, most significant first, in the upper half;
below it a moving coloured texture), so a test reads back which frame a decoder really gave. The
number is the position in *presentation* order of the rendered stream, before any edit list.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

__all__ = [
    "Rendering",
    "audio_only_bytes",
    "draw_frame",
    "read_bar_code",
    "render_video",
    "with_edit_list_start",
]

NUM_BITS = 12

_FAST = {
    "libx264": {"preset": "ultrafast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "crf": "16", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libsvtav1": {"preset": "8", "crf": "20", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "16"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
}
_BIT_RATE = {"libvpx": 3_000_000, "mpeg4": 2_000_000, "libvpx-vp9": 2_000_000}


@dataclass(frozen=True)
class Rendering:
    """What to render.

    `pts_ms` gives irregular presentation times (variable rate); `rotation_degrees` is counter-clockwise
    as the display matrix means it, and the coded picture is turned the other way, so that the displayed
    one is upright.
    """

    codec: str = "libx264"
    container: str = "mp4"
    num_frames: int = 40
    width: int = 96
    height: int = 64
    fps: int = 25
    gop: int = 12
    bframes: int = 0
    pix_fmt: str = "yuv420p"
    rotation_degrees: int = 0
    pts_ms: Sequence[int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


def draw_frame(number: int, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """uint8[height, width, 3] with `number` as a bar code above a texture that moves with it."""
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    columns = np.arange(width) * NUM_BITS // width
    bits = (number >> (NUM_BITS - 1 - columns)) & 1
    rgb[: height // 2] = np.where(bits[:, None] == 1, 225, 30).astype(np.uint8)[None]
    y, x = np.mgrid[0 : height - height // 2, 0:width]
    rgb[height // 2 :, :, 0] = (3 * x + 5 * number) % 200 + 20
    rgb[height // 2 :, :, 1] = (4 * y + 2 * number) % 180 + 30
    rgb[height // 2 :, :, 2] = 120 + 60 * ((x // 8 + y // 8 + number) % 2)
    return rgb


def read_bar_code(rgb: npt.NDArray[np.uint8]) -> int:
    """Number that `draw_frame` burned in; any size, as long as the picture is upright."""
    height, width = rgb.shape[:2]
    band = rgb[height // 8 : 3 * height // 8].mean(axis=(0, 2))
    centres = (np.arange(NUM_BITS) * 2 + 1) * width // (2 * NUM_BITS)
    number = 0
    for centre in centres:
        number = number << 1 | int(band[centre] > 127)
    return number


def render_video(rendering: Rendering, draw: Callable[[int], npt.NDArray[np.uint8]] | None = None) -> bytes:
    """Encode the rendering into a complete file of its container.

    `draw(number)` gives uint8[height, width, 3] of a frame instead of the bar code and its texture.
    """
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder writes to the terminal otherwise
    sink = io.BytesIO()
    with (
        _same_scheduling(),
        av.open(sink, "w", format=rendering.container, options=rendering.container_options) as output,
    ):
        stream = output.add_stream(rendering.codec, rate=rendering.fps)
        _set_up(stream, rendering)
        for number in range(rendering.num_frames):
            rgb = draw(number) if draw is not None else _numbered(rendering, number)
            output.mux(stream.encode(_coded_frame(rendering, number, rgb)))
        output.mux(stream.encode(None))
    return sink.getvalue()


@contextlib.contextmanager
def _same_scheduling() -> Iterator[None]:
    """Give the calling thread its scheduling back.

    As root, the AV1 encoder makes the thread that opens it real-time (SCHED_FIFO 99), and what that thread
    starts from then on inherits it: on two cores a test worker and its ranks then starve all servers.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def audio_only_bytes(*, container: str = "mp4", codec: str = "aac") -> bytes:
    """A file of the container with one second of silence and no video."""
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as output:
        stream = output.add_stream(codec, rate=16_000)
        for index in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, index * 1024, Fraction(1, 16_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return sink.getvalue()


def without_samples(mp4: bytes) -> bytes:
    """The same MP4 with sample tables that hold no sample: a video of no duration."""
    data = bytearray(mp4)
    for table, num_counts in (
        (b"stts", 1),
        (b"stsz", 2),
        (b"stsc", 1),
        (b"stco", 1),
        (b"ctts", 1),
        (b"stss", 1),
    ):
        position = bytes(data).index(table) + 8 + 4 * (num_counts - 1)
        data[position : position + 4] = bytes(4)
    return bytes(data)


def with_edit_list_start(data: bytes, *, skip_frames: int, fps: int = 25) -> bytes:
    """Make an MP4's edit list start `skip_frames` later: those frames are decoded, never presented."""
    position = data.index(b"elst")
    version, count = data[position + 4], struct.unpack_from(">I", data, position + 8)[0]
    if version != 0 or count != 1:
        raise ValueError(f"edit list version {version} with {count} entries; one entry of version 0 expected")
    duration, media_time = struct.unpack_from(">Ii", data, position + 12)
    media_scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    movie_scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    patched = bytearray(data)
    struct.pack_into(
        ">Ii",
        patched,
        position + 12,
        duration - skip_frames * movie_scale // fps,
        media_time + skip_frames * media_scale // fps,
    )
    return bytes(patched)


def _set_up(stream: av.VideoStream, rendering: Rendering) -> None:
    turned = rendering.rotation_degrees % 180 == 90
    stream.width = rendering.height if turned else rendering.width
    stream.height = rendering.width if turned else rendering.height
    stream.pix_fmt = rendering.pix_fmt
    if rendering.codec in _BIT_RATE:
        stream.bit_rate = _BIT_RATE[rendering.codec]
    context = stream.codec_context
    context.gop_size = rendering.gop
    context.max_b_frames = rendering.bframes
    context.thread_count = 1
    if rendering.pts_ms is not None:
        context.time_base = Fraction(1, 1000)
    options = {**_FAST.get(rendering.codec, {}), **rendering.options}
    stream.options = options
    if rendering.rotation_degrees:
        stream.set_display_rotation(rendering.rotation_degrees)


def _numbered(rendering: Rendering, number: int) -> npt.NDArray[np.uint8]:
    return draw_frame(number, width=rendering.width, height=rendering.height)


def _coded_frame(rendering: Rendering, number: int, rgb: npt.NDArray[np.uint8]) -> av.VideoFrame:
    turned = np.ascontiguousarray(np.rot90(rgb, k=-rendering.rotation_degrees // 90))
    frame = av.VideoFrame.from_ndarray(turned, format="rgb24").reformat(format=rendering.pix_fmt)
    if rendering.pts_ms is None:
        frame.pts, frame.time_base = number, Fraction(1, rendering.fps)
    else:
        frame.pts, frame.time_base = rendering.pts_ms[number], Fraction(1, 1000)
    return frame
