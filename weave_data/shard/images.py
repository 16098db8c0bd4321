"""What kind of picture some bytes are, told from their beginning and end without decoding.

Frames of videos are JPEG or PNG; images of a source keep their own bytes, which may also be WebP or GIF.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

__all__ = ["image_format", "image_problem", "load_image"]

_PNG_END = b"IEND\xaeB`\x82"

# what Pillow raises on bytes that are no picture, or a damaged one
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def image_format(data: bytes) -> str | None:
    """`jpeg`, `png`, `webp` or `gif` by the first bytes; None for anything else."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return None


def image_problem(data: bytes) -> str | None:
    """Why bytes are not one whole picture; None when they are.

    Encoders end a file exactly where the picture ends. Files found in the wild may go on after it or lack
    their last bytes: those, and only those, are decoded to tell them from a picture that was cut.
    """
    found = image_format(data)
    if found is None:
        return f"no JPEG, PNG, WebP or GIF (begins {data[:4].hex()}, ends {data[-2:].hex()})"
    if _ends_well(data, found) or _decodes(data):
        return None
    return f"no whole {found.upper()} (begins {data[:4].hex()}, ends {data[-2:].hex()})"


def _ends_well(data: bytes, found: str) -> bool:
    match found:
        case "jpeg":
            return data.endswith(b"\xff\xd9")
        case "png":
            return data.endswith(_PNG_END)
        case "gif":
            return data.endswith(b";")
        case _:
            size_bytes = int.from_bytes(data[4:8], "little") + 8
            return size_bytes in (len(data), len(data) - 1)  # a chunk of odd length is padded by one byte


def load_image(data: bytes) -> Any:
    """Decode a picture; of an animation the first one.

    Returns:
        A loaded `PIL.Image.Image`.

    Raises:
        ValueError: It can't be decoded; the message says why.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures; what is stored was within our own limit
            image = Image.open(io.BytesIO(data))
            image.load()
    except (Image.DecompressionBombError, *_BROKEN) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return image


def _decodes(data: bytes) -> bool:
    try:
        load_image(data)
    except ValueError:
        return False
    return True
