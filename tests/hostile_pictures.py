"""Good pictures, and pictures made to exhaust whoever loads them."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image
from rendering import draw_frame

__all__ = ["PICTURE_KINDS", "good_pictures"]

_PNG = b"\x89PNG\r\n\x1a\n"


def good_pictures() -> Iterator[bytes]:
    """One of each format that is taken."""
    image = Image.fromarray(draw_frame(7, width=160, height=96))
    for name in ("JPEG", "PNG", "WEBP", "GIF"):
        sink = io.BytesIO()
        image.save(sink, name)
        yield sink.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@functools.cache
def _zeros(num_megabytes: int) -> bytes:
    """Compressed zeros: a thousandth of their size."""
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(deflate.compress(block) for _ in range(num_megabytes)) + deflate.flush()


def _png(width: int, height: int, data: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", header) + b"".join(extra) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _png_bomb(chance: random.Random, bases: Any) -> bytes:
    """Pictures whose size says all: valid up to the last row, or promising more than there is."""
    width, height = chance.choice(((9_000, 9_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 10**8)))
    return _png(width, height, _zeros(300))


def _png_text_bomb(chance: random.Random, bases: Any) -> bytes:
    """Compressed text and colour profiles that unfold to gigabytes beside a small picture."""
    kind, head = chance.choice(
        ((b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"profile\0\0"))
    )
    bombs = [_chunk(kind, head + _zeros(300))] * chance.choice((1, 20))
    return _png(2, 2, zlib.compress(bytes(14)), *bombs)


def _png_many_chunks(chance: random.Random, bases: Any) -> bytes:
    kind = chance.choice((b"tEXt", b"IDAT", b"fdAT", b"acTL", b"tIME"))
    return _png(2, 2, zlib.compress(bytes(14)), *([_chunk(kind, b"Comment\0x")] * 50_000))


def _jpeg_size(chance: random.Random, bases: Any) -> bytes:
    data = bytearray(next(good_pictures()))
    start = data.index(b"\xff\xc0") + 5
    struct.pack_into(
        ">HH", data, start, *chance.choice(((65_500, 65_500), (9_000, 9_000), (0, 0), (1, 65_500)))
    )
    return bytes(data)


@functools.cache
def _progressive(side_px: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((side_px, side_px, 3), 90, np.uint8)).save(sink, "JPEG", progressive=True)
    return sink.getvalue()


def _jpeg_scans(chance: random.Random, bases: Any) -> bytes:
    """A progressive picture whose last scan comes again and again: each passes over all of it."""
    data = _progressive(chance.choice((500, 2_000)))
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * chance.choice((100, 5_000)) + data[-2:]


def _gif_bomb(chance: random.Random, bases: Any) -> bytes:
    sink = io.BytesIO()
    pictures = [Image.frombytes("P", (64, 64), chance.randbytes(4096)) for _ in range(50)]
    pictures[0].save(sink, "GIF", save_all=True, append_images=pictures[1:], duration=1)
    data = bytearray(sink.getvalue())
    struct.pack_into("<HH", data, 6, *chance.choice(((65_535, 65_535), (9_000, 9_000), (64, 64))))
    return bytes(data)


def _webp_size(chance: random.Random, bases: Any) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 64)).save(sink, "WEBP", lossless=chance.random() < 0.5)
    data = bytearray(sink.getvalue())
    data[20:30] = chance.choice((b"\xff" * 10, bytes(10), chance.randbytes(10)))
    return bytes(data)


PICTURE_KINDS: dict[str, Callable[[random.Random, Any], bytes]] = {
    "PNG bomb": _png_bomb,
    "PNG text bomb": _png_text_bomb,
    "PNG chunks": _png_many_chunks,
    "JPEG size": _jpeg_size,
    "JPEG scans": _jpeg_scans,
    "GIF": _gif_bomb,
    "WebP size": _webp_size,
}
