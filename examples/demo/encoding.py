"""Drawn planes (Y, Cb, Cr) to H.264 files, and to small RGB squares."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Planes", "encode_planes", "squeeze_planes"]

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Y uint8[height, width], Cb and Cr uint8[height / 2, width / 2]."""


def encode_planes(path: Path, frames: Iterable[Planes], *, fps: int) -> None:
    """Write frames as an mp4 file.

    Args:
        path: Replaced if it is there; its directory exists.
        frames: All of one size, sides even.
        fps: Frames per second, constant.
    """
    import av  # worlds can be imported where nothing is encoded

    # x264's macroblock tree reads memory it never wrote when a picture is this small: one clip in six
    # came out with other bytes within 20 tries; without it, none in 720.
    options = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "mbtree=0"}
    muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=muxing) as container:
        stream = None
        for index, planes in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = planes[0].shape
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(_packed(planes), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def squeeze_planes(planes: Planes, side_px: int) -> NDArray[np.uint8]:
    """Squeeze a frame to a square, as `resize-naive` does.

    Returns:
        RGB uint8[3, side_px, side_px].
    """
    import av

    frame = av.VideoFrame.from_ndarray(_packed(planes), format="yuv420p")
    squeezed = frame.reformat(side_px, side_px, "rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(squeezed.to_ndarray().transpose(2, 0, 1))


def _packed(planes: Planes) -> NDArray[np.uint8]:
    return np.concatenate([plane.ravel() for plane in planes]).reshape(-1, planes[0].shape[1])
