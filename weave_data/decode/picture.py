"""Pixels: colour conversion, display orientation, size, JPEG and PNG, the same bytes on every CPU.

swscale's default conversion rounds differently at every SIMD level; with accurate rounding and
bit-exact output it does not. Those flags interpolate chroma differently from the default (up to 32
levels at colour edges), so comparisons with other tools use `SWSCALE_DEFAULT`.
Pillow resizes 8-bit images in integer arithmetic, and libjpeg-turbo's integer DCT gives the bytes of
its plain C code. PNGs are compressed by run lengths only: deflate's search for longer matches hashes
its input, and zlib-ng has had other hashes on other CPUs.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from weave_data.decode.decoder import RgbImage
from weave_data.decode.job import PictureFormat

__all__ = ["SWSCALE_DEFAULT", "SWSCALE_EXACT", "encode_picture", "fit_short_side", "orient"]

_PNG_LEVEL, _PNG_RUN_LENGTHS = 6, 3  # zlib's level and strategy, part of the bytes
_SWS_BILINEAR, _SWS_ACCURATE_RND, _SWS_BITEXACT = 0x2, 0x40000, 0x80000

SWSCALE_DEFAULT = _SWS_BILINEAR
SWSCALE_EXACT = _SWS_BILINEAR | _SWS_ACCURATE_RND | _SWS_BITEXACT


def orient(rgb: RgbImage, display_matrix: bytes | None) -> RgbImage:
    """Turn a coded picture as its container's display matrix asks.

    Args:
        rgb: uint8[height, width, 3] as coded.
        display_matrix: 9 native int32 (a b u c d v x y w), or None. Quarter turns and mirrors are
            applied; any other matrix leaves the picture as coded.

    Returns:
        uint8[h, w, 3]; height and width are exchanged by quarter turns.
    """
    if display_matrix is None:
        return rgb
    a, b, _, c, d = np.frombuffer(display_matrix, dtype=np.int32)[:5].tolist()
    if a and d and not b and not c:  # x' = a x, y' = d y
        return rgb[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]
    if b and c and not a and not d:  # x' = c y, y' = b x
        return rgb.swapaxes(0, 1)[:: 1 if b > 0 else -1, :: 1 if c > 0 else -1]
    return rgb


def fit_short_side(width: int, height: int, *, short_side_px: int) -> tuple[int, int]:
    """Size in px with the short side at `short_side_px`; a picture is never enlarged.

    The other side is rounded to the nearest pixel: 596 x 336 at 224 px -> 397 x 224.
    """
    short = min(width, height)
    if short <= short_side_px:
        return width, height

    def scaled(side: int) -> int:
        return (2 * side * short_side_px + short) // (2 * short)

    return scaled(width), scaled(height)


def encode_picture(rgb: RgbImage | Image.Image, *, size: tuple[int, int], picture: PictureFormat) -> bytes:
    """Resize (bicubic, antialiased) and compress.

    JPEG is baseline, 4:2:0, with the standard Huffman tables; PNG is RGB, 8 bits.

    Args:
        rgb: uint8[height, width, 3], or an RGB image.
        size: (width, height) of the stored frame, px.
        picture: Format and quality.
    """
    image: Any = rgb if isinstance(rgb, Image.Image) else Image.fromarray(np.ascontiguousarray(rgb))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    if picture.format == "png":
        image.save(sink, "PNG", compress_level=_PNG_LEVEL, compress_type=_PNG_RUN_LENGTHS)
    else:
        options = {"subsampling": "4:2:0", "optimize": False, "progressive": False}
        image.save(sink, "JPEG", quality=picture.quality, **options)
    return sink.getvalue()
