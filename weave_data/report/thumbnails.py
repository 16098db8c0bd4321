"""Stored frames as small pictures inside a page, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

__all__ = ["MakePicture", "Thumbnails", "shrink_picture"]

_SIZES = ((224, 74), (176, 70), (144, 66), (112, 60), (88, 54), (64, 48))
_TYPICAL_BYTES = 7_000

MakePicture = Callable[[bytes], str]
"""Bytes of a stored frame -> `data:` uri."""


class Thumbnails:
    """Makes pictures that together stay within a budget.

    Args:
        num_pictures: How many will be asked for.
        budget_bytes: For all of them, in base64.
    """

    def __init__(self, num_pictures: int, budget_bytes: int) -> None:
        self._max_bytes = min(_TYPICAL_BYTES, int(budget_bytes * 0.74 / max(1, num_pictures)))
        self._made: dict[bytes, str] = {}

    def __call__(self, frame: bytes) -> str:
        """`data:` uri of a frame; the same frame is made once."""
        if frame not in self._made:
            data = shrink_picture(frame, max_bytes=self._max_bytes)
            self._made[frame] = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        return self._made[frame]


def shrink_picture(frame: bytes, *, max_bytes: int) -> bytes:
    """The largest JPEG of a picture within a size, never larger than the picture itself.

    Args:
        frame: JPEG, PNG, WebP or GIF.
        max_bytes: Wanted size; the smallest of the sizes tried may still be above it.
    """
    from PIL import Image

    data = b""
    with Image.open(io.BytesIO(frame)) as opened:
        picture = opened.convert("RGB")
    for side, quality in _SIZES:
        small = picture.copy()
        small.thumbnail((side, side))
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=quality, optimize=True)
        data = sink.getvalue()
        if len(data) <= max_bytes:
            break
    return data
