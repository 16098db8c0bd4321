"""Captions and woven rows made of plain colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["CAPTIONS", "jpeg", "woven_row"]

CAPTIONS = [
    f"A {colour} {shape} moves {where} on a grey background."
    for colour in ("red", "green", "blue", "white")
    for shape in ("circle", "square")
    for where in ("left", "right", "up", "down")
]


def jpeg(rgb: Sequence[int], *, width: int = 48, height: int = 40) -> bytes:
    array = np.full((height, width, 3), rgb, dtype=np.uint8)
    array[height // 4 : height // 2, width // 4 : width // 2] = 255 - array[0, 0]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def woven_row(
    sample_id: str, frames: Sequence[bytes], answer: str, question: str = "What happens?"
) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "frames": list(frames),
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }
