"""What a clip looks like in numbers, from the four linspace frames: exact integers, then one division.

Each frame's luma (Pillow's ITU-R 601 weights, in integers) is brought to 128 x 128 px, so that the
numbers depend neither on the clip's size nor on the stored frames' size, nor on the CPU.

    luma            mean over frames and pixels, 0 black .. 1 white
    motion          mean absolute difference of consecutive frames, 0..1; 0 where there is one frame
    black_fraction  share of frames that show nothing: mean < 0.06 and deviation < 0.03 (black),
                    or deviation < 0.01 (blank in any colour)
    sharpness       mean over frames of v / (v + 100), v the variance of the 4-neighbour Laplacian of
                    0..255 luma: 0 flat .. 1, and 0.5 at 100, the customary bound of "blurred"
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from weave_data.frame_policy import FrameAsk

__all__ = ["MEASURED", "ClipMeasures"]

MEASURED = FrameAsk("linspace", 4)
"""The frames that are looked at; a shorter clip has all of its frames looked at."""

_SIDE_PX = 128
_HALF_SHARP = 100
_Luma = npt.NDArray[np.int32]


class ClipMeasures:
    """Collects the measured frames of a clip, in ascending order."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._luma = 0  # sums over all pixels of all frames
        self._motion = 0
        self._num_black = 0
        self._sharpness = 0.0
        self._previous: _Luma | None = None

    def add(self, rgb: Image.Image | npt.NDArray[np.uint8]) -> None:
        """Look at the next frame: uint8[height, width, 3], or an RGB image."""
        image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(np.ascontiguousarray(rgb))
        small = image.convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=1.0)
        luma: _Luma = np.asarray(small).astype(np.int32)
        total, squares = _sums(luma)
        self._num_frames += 1
        self._luma += total
        self._num_black += _is_blank(total, squares, luma.size)
        self._sharpness += _sharpness(luma)
        if self._previous is not None:
            self._motion += int(np.abs(luma - self._previous).sum(dtype=np.int64))
        self._previous = luma

    def result(
        self, data: bytes, num_source_frames: int, source_seconds: float, *, size: tuple[int, int]
    ) -> dict[str, Any]:
        """The columns of QUALITY_SCHEMA but `clip_id`.

        Args:
            data: The clip's bytes.
            num_source_frames: n.
            source_seconds: First to last frame; the last one is counted as shown for the mean interval.
            size: (width, height) of the source as it is shown, px.
        """
        intervals = num_source_frames - 1
        is_moving = intervals > 0 and source_seconds > 0
        pixels = 255 * _SIDE_PX * _SIDE_PX
        return {
            "sha256": hashlib.sha256(data).hexdigest(),
            "duration_seconds": source_seconds * num_source_frames / intervals if is_moving else 0.0,
            "frame_rate": intervals / source_seconds if is_moving else 0.0,
            "width": size[0],
            "height": size[1],
            "motion": self._motion / (pixels * max(1, self._num_frames - 1)),
            "black_fraction": self._num_black / self._num_frames,
            "sharpness": self._sharpness / self._num_frames,
            "luma": self._luma / (pixels * self._num_frames),
        }


def _sums(values: _Luma) -> tuple[int, int]:
    flat = values.ravel()
    return int(flat.sum(dtype=np.int64)), int(np.square(flat, dtype=np.int64).sum())


def _is_blank(total: int, squares: int, count: int) -> bool:
    """Bounds of the mean and the deviation, as comparisons of integers."""
    is_dark = 100 * total < 6 * 255 * count
    spread = count * squares - total * total  # count^2 times the variance
    bound = 255 * 255 * count * count

    def is_below(hundredths: int) -> bool:
        return 10_000 * spread < hundredths * hundredths * bound

    return is_below(1) or (is_dark and is_below(3))


def _sharpness(luma: _Luma) -> float:
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    total, squares = _sums(laplacian)
    count = laplacian.size
    spread = count * squares - total * total
    return spread / (spread + _HALF_SHARP * count * count)
