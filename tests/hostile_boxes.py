"""Take an MP4 apart into boxes, change one, and put it together again with sizes that fit."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Box", "huge_avc_parameters", "parse_boxes", "serialise_boxes", "walk"]

_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"mvex"))


@dataclass
class Box:
    """One box: bytes of its own, or boxes inside."""

    kind: bytes
    payload: bytes = b""
    children: list[Box] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Size, kind, content."""
        content = serialise_boxes(self.children) if self.kind in _PARENTS else self.payload
        return struct.pack(">I", min(8 + len(content), 0xFFFFFFFF)) + self.kind + content


def parse_boxes(data: bytes) -> list[Box]:
    """Boxes of a whole file, or of a parent's content; what is no box any more is dropped."""
    boxes, start = [], 0
    while start + 8 <= len(data):
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if size < 8 or start + size > len(data):
            break
        payload = data[start + 8 : start + size]
        boxes.append(Box(kind, b"", parse_boxes(payload)) if kind in _PARENTS else Box(kind, payload))
        start += size
    return boxes


def serialise_boxes(boxes: list[Box]) -> bytes:
    """Boxes one after the other."""
    return b"".join(box.to_bytes() for box in boxes)


def walk(boxes: list[Box]) -> Iterator[Box]:
    """Every box, parents before what they hold."""
    for box in boxes:
        yield box
        yield from walk(box.children)


def huge_avc_parameters(chance: random.Random) -> bytes:
    """An H.264 sequence parameter set that promises pictures of up to 16384 x 16384 px, 16 kept."""
    side = [chance.choice((256, 512, 1023, 1024)) for _ in range(2)]  # macro-blocks of 16 px
    bits = "".join(_exp_golomb(value) for value in (0, 0, 2, 16)) + "0"
    bits += "".join(_exp_golomb(value - 1) for value in side) + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    return b"\x67\x42\xc0\x3e" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _exp_golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits
