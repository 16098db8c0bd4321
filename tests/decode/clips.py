"""Renderings that the decode tests share, and the reference: a plain full decode by PyAV."""

from __future__ import annotations

import functools
import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from rendering import Rendering, render_video, with_edit_list_start

_GOOD = {"preset": "veryfast", "crf": "18"}
_X265 = {"preset": "ultrafast", "crf": "16"}

RENDERINGS = {
    "h264": Rendering(bframes=2, options=_GOOD),
    "h264-one-gop": Rendering(bframes=3, gop=250, options=_GOOD),
    "h264-open-gop": Rendering(bframes=2, options={**_GOOD, "x264-params": "open-gop=1"}),
    "h264-intra-refresh": Rendering(options={**_GOOD, "x264-params": "intra-refresh=1"}),
    "h264-interlaced": Rendering(options={**_GOOD, "x264-params": "interlaced=1"}),
    "h264-10-bit": Rendering(pix_fmt="yuv420p10le", bframes=2, options=_GOOD),
    "h264-444": Rendering(pix_fmt="yuv444p", options=_GOOD),
    "h264-full-range": Rendering(pix_fmt="yuvj420p", options=_GOOD),
    "h264-matroska": Rendering(container="matroska", bframes=2, options=_GOOD),
    "h264-transport-stream": Rendering(container="mpegts", bframes=2, options=_GOOD),
    "hevc": Rendering(codec="libx265", bframes=2, options={**_X265, "x265-params": "log-level=none:pools=1"}),
    "hevc-closed-gop-10-bit": Rendering(
        codec="libx265",
        pix_fmt="yuv420p10le",
        bframes=2,
        options={**_X265, "x265-params": "log-level=none:pools=1:open-gop=0"},
    ),
    "av1": Rendering(codec="libsvtav1"),
    "av1-10-bit": Rendering(codec="libsvtav1", pix_fmt="yuv420p10le"),
    "vp8": Rendering(codec="libvpx", container="webm"),
    "vp9": Rendering(codec="libvpx-vp9", container="webm"),
    "mpeg4": Rendering(codec="mpeg4", bframes=2),
    "mpeg4-avi": Rendering(codec="mpeg4", container="avi"),
    "rotated-90": Rendering(rotation_degrees=90),
    "rotated-180": Rendering(rotation_degrees=180),
    "rotated-270": Rendering(rotation_degrees=-90),
    "variable-rate": Rendering(
        bframes=2, pts_ms=[40 * i + 7 * (i % 3) + 500 * (i > 20) for i in range(40)], options=_GOOD
    ),
    "edit-list": Rendering(bframes=2, options=_GOOD),
}
EDITED_FRAMES = 9

SPARSE = frozenset(RENDERINGS) - {
    "h264-interlaced",
    "h264-transport-stream",
    "vp9",
    "mpeg4-avi",
}
"""Those whose packet table is to be trusted; the others must take the sequential path."""


@functools.cache
def rendered(name: str) -> bytes:
    data = render_video(RENDERINGS[name])
    return with_edit_list_start(data, skip_frames=EDITED_FRAMES) if name == "edit-list" else data


def shown_numbers(name: str) -> list[int]:
    """The numbers burned into the frames that a player shows, in order."""
    first = EDITED_FRAMES if name == "edit-list" else 0
    return list(range(first, RENDERINGS[name].num_frames))


def presented_frames(data: bytes, **conversion: Any) -> list[npt.NDArray[np.uint8]]:
    """Brute force, without any of our code: every frame PyAV presents, upright, uint8[h, w, 3]."""
    with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24", **conversion), k=round(frame.rotation / 90))
            for frame in container.decode(container.streams.best("video"))
        ]


def packet_places(data: bytes) -> list[tuple[int, int]]:
    """(position in the file, bytes) of each video packet."""
    with av.open(io.BytesIO(data)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
