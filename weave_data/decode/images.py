"""A clip that is one image: its bytes are stored as they are, once Pillow has really loaded them.

Loading finds what a header does not show: a JPEG that ends early, a PNG with a wrong checksum. Of an
animated GIF or WebP the first picture counts. Orientation tags are left to whoever shows the image,
as the bytes keep them: width and height are those of the header.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib

from PIL import Image

from weave_data.decode.job import ClipFrames, ClipJob
from weave_data.decode.measures import ClipMeasures
from weave_data.errors import DecodeError

__all__ = ["read_image"]

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
MAX_PIXELS = 89_478_485
"""A quarter of a GiB of RGB: where Pillow starts to warn of decompression bombs."""

MAX_DECODED_PIXELS = 12 * MAX_PIXELS
"""Scans of a JPEG times its px; an encoder writes about ten scans. More is a bomb for whoever reads it."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of a JPEG; compressed data holds none
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# what Pillow raises on bytes that are no image, or a damaged one
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def read_image(data: bytes, job: ClipJob) -> ClipFrames:
    """Verify one image and take its bytes as frame 0.

    Raises:
        DecodeError: `empty_file`, or `not_an_image`: no JPEG, PNG, WebP or GIF, one that can't be
            loaded, more than 89 million px, or a JPEG that passes over them again and again.
    """
    if not data:
        raise DecodeError("empty_file", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is below Pillow's
            image = Image.open(io.BytesIO(data), formats=tuple(_SUFFIXES))
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError(
                    "not_an_image", f"{image.width} x {image.height} px, {MAX_PIXELS} px are allowed"
                )
            scans = _num_scans(data) if image.format == "JPEG" else 1
            if scans * image.width * image.height > MAX_DECODED_PIXELS:
                detail = (
                    f"{scans} scans of {image.width} x {image.height} px, {MAX_DECODED_PIXELS} px are allowed"
                )
                raise DecodeError("not_an_image", detail)
            image.load()
            rgb = image.convert("RGB") if job.measure else None
    except (Image.DecompressionBombError, *_BROKEN) as error:
        # the name only: messages hold addresses, and rejects are committed bytes
        detail = f"{len(data)} bytes that Pillow can't load as JPEG, PNG, WebP or GIF: {type(error).__name__}"
        raise DecodeError("not_an_image", detail) from error
    measures = ClipMeasures()
    if rgb is not None:
        measures.add(rgb)
    size = image.size
    return ClipFrames(
        source_frames=1,
        source_seconds=0.0,
        width=size[0],
        height=size[1],
        frames=() if 0 in job.stored else ((0, 0.0, data),),
        suffix=_SUFFIXES[str(image.format)],
        quality=measures.result(data, 1, 0.0, size=size) if job.measure else None,
    )


def _num_scans(data: bytes) -> int:
    """How often a JPEG passes over its picture; what segments hold and what follows it is not counted."""
    scans, position = 0, 2
    while found := _MARKER.search(data, position):
        start = found.start() + 2
        if data[start - 1] == _END_OF_IMAGE:
            break
        scans += data[start - 1] == _START_OF_SCAN
        position = start + int.from_bytes(data[start : start + 2], "big")
    return scans
