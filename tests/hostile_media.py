"""Broken variants of good clips and pictures, each a function of (seed, number).

    bases (rendered, shared) + seed + number -> Variant(kind, media, data)

Kinds take turns, so that any run of consecutive numbers holds all of them. What a variant should give is
not known: a bit flip may be harmless. What holds of all is for whoever decodes them to check.
"""

from __future__ import annotations

import functools
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile_boxes import huge_avc_parameters, parse_boxes, serialise_boxes, walk
from hostile_pictures import PICTURE_KINDS, good_pictures
from rendering import Rendering, render_video

__all__ = ["KINDS", "Bases", "Variant", "load_bases", "variants"]

_EXTREMES = (0, 1, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

_BOMBS = (
    ("mpeg4", "avi", 16, 4096, 30),
    ("libx264", "matroska", 8192, 16, 30),
    ("libx264", "mp4", 4096, 4096, 6),
    ("png", "mov", 16_000, 6_000, 2),
    ("mjpeg", "avi", 16_000, 2_000, 3),
    ("libx264", "mp4", 64, 48, 20_000),
)
"""Codec, container, width and height in px, frames: small files of large pictures, or of many."""


@dataclass(frozen=True)
class Variant:
    """One hostile input; `media` is `video` or `image`, as a catalog would call it."""

    number: int
    kind: str
    media: str
    data: bytes


@dataclass(frozen=True)
class Bases:
    """Good clips and pictures; `mp4s` are those of the clips that have boxes, `bombs` can be rendered."""

    clips: tuple[bytes, ...]
    mp4s: tuple[bytes, ...]
    pictures: tuple[bytes, ...]
    bombs: tuple[tuple[str, str, int, int, int], ...]


@functools.cache
def load_bases(*, is_light: bool = False) -> Bases:
    """Rendered clips of seven codecs and six containers; with WEAVE_ASSETS, real clips and photos too.

    Light ones are rendered only, with bombs that take a second to make.
    """
    renderings = (
        Rendering(bframes=2),
        Rendering(codec="libx265", num_frames=20),
        Rendering(codec="libsvtav1", num_frames=20),
        Rendering(codec="libvpx", container="webm"),
        Rendering(codec="libvpx-vp9", container="webm", num_frames=20),
        Rendering(codec="mpeg4", bframes=2),
        Rendering(codec="mpeg4", container="avi"),
        Rendering(container="matroska"),
        Rendering(container="mpegts"),
    )
    clips = [render_video(rendering) for rendering in renderings]
    pictures = list(good_pictures())
    folder = None if is_light else os.environ.get("WEAVE_ASSETS")
    if folder:
        files = sorted(path for path in (Path(folder) / "clips" / "videos").rglob("*") if path.is_file())
        clips += [path.read_bytes() for path in files if path.stat().st_size < 2_000_000]
        pictures += [path.read_bytes() for path in sorted((Path(folder) / "images").glob("*.jpg"))[:8]]
    mp4s = [clip for clip in clips if any(b"avcC" in box.payload for box in walk(parse_boxes(clip)))]
    return Bases(tuple(clips), tuple(mp4s), tuple(pictures), _BOMBS[:2] if is_light else _BOMBS)


def variants(bases: Bases, *, seed: int, count: int, first: int = 0) -> Iterator[Variant]:
    """`count` variants from number `first` on."""
    names = list(KINDS)
    for number in range(first, first + count):
        name = names[number % len(names)]
        chance = random.Random(f"{seed}/{number}")
        media, make = KINDS[name]
        yield Variant(number, name, media, make(chance, bases))


def _any(bases: Bases, media: str) -> tuple[bytes, ...]:
    return bases.clips if media == "video" else bases.pictures


def _flip(chance: random.Random, data: bytes, stop: int | None = None) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 30, 300))):
        changed[chance.randrange(min(len(data), stop or len(data)))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _damage_range(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice((4, 64, 1024, 16_384)))
    piece = data[start:stop]
    filling = chance.choice((b"", piece * 2, bytes(len(piece)), chance.randbytes(len(piece))))
    return data[:start] + filling + data[stop:]


def _splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    cut = chance.choice((8, 32, 128, 1024, len(data) // 2))
    return data[:cut] + other[chance.choice((cut, 0)) :]


def _write_extreme(chance: random.Random, data: bytes) -> bytes:
    """A 32-bit field of the first or last bytes, where containers keep their tables, at its limits."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 4))):
        near = chance.randrange(min(2048, len(data) - 8))
        start = near if chance.random() < 0.5 else len(data) - 8 - near
        struct.pack_into(chance.choice((">I", "<I")), changed, start, chance.choice(_EXTREMES))
    return bytes(changed)


# where a box holds what: offsets of 32-bit fields in the payload of version 0
_TIME_BASES = {b"mvhd": 12, b"mdhd": 12}
_DURATIONS = {b"mvhd": 16, b"mdhd": 16, b"tkhd": 20, b"elst": 8, b"stts": 12, b"ctts": 12}
_COUNTS = {b"stts": 8, b"stsz": 8, b"stsc": 12, b"stco": 4, b"ctts": 8, b"elst": 4, b"stss": 4}


def _field(chance: random.Random, data: bytes, places: dict[bytes, int], values: tuple[int, ...]) -> bytes:
    boxes = parse_boxes(data)
    targets = [box for box in walk(boxes) if len(box.payload) >= places.get(box.kind, 1 << 40) + 4]
    for box in targets if chance.random() < 0.3 else [chance.choice(targets)]:
        payload = bytearray(box.payload)
        struct.pack_into(">I", payload, places[box.kind], chance.choice(values))
        box.payload = bytes(payload)
    return serialise_boxes(boxes)


def _zero_time_base(chance: random.Random, bases: Bases) -> bytes:
    data = chance.choice(bases.clips)
    if b"\x2a\xd7\xb1" in data[:4096]:  # Matroska's TimestampScale: size, then an integer
        start = data.index(b"\x2a\xd7\xb1") + 4
        size = data[start - 1] & 0x0F
        return data[:start] + chance.choice((bytes(size), b"\xff" * size)) + data[start + size :]
    if data[:4] == b"RIFF" and b"strh" in data[:4096]:
        start = data.index(b"strh") + 8 + 20
        return (
            data[:start] + chance.choice((bytes(8), b"\xff" * 8, bytes(4) + b"\x01" * 4)) + data[start + 8 :]
        )
    return _field(chance, chance.choice(bases.mp4s), _TIME_BASES, (0, 1, 0xFFFFFFFF))


def _absurd_duration(chance: random.Random, bases: Bases) -> bytes:
    data = chance.choice(bases.clips)
    if b"\x44\x89\x88" in data[:4096]:  # Matroska's Duration, a double
        start = data.index(b"\x44\x89\x88") + 3
        value = chance.choice((float("inf"), float("nan"), -1.0, 1e300))
        return data[:start] + struct.pack(">d", value) + data[start + 8 :]
    return _field(chance, chance.choice(bases.mp4s), _DURATIONS, _EXTREMES)


def _huge_dimensions(chance: random.Random, bases: Bases) -> bytes:
    boxes = parse_boxes(chance.choice(bases.mp4s))
    for box in walk(boxes):
        if box.kind == b"stsd" and b"avcC" in box.payload:
            if chance.random() < 0.5:  # in the sample entry only: a decoder may not look at it
                box.payload = box.payload[:40] + struct.pack(">HH", 65_535, 65_535) + box.payload[44:]
            else:
                box.payload = _with_parameters(box.payload, huge_avc_parameters(chance))
    return serialise_boxes(boxes)


def _with_parameters(stsd: bytes, parameters: bytes) -> bytes:
    """The sample description with another sequence parameter set in its `avcC`."""
    start = stsd.index(b"avcC") - 4
    size = int.from_bytes(stsd[start : start + 4], "big")
    record = stsd[start + 8 : start + size]
    old = int.from_bytes(record[6:8], "big")
    record = record[:6] + struct.pack(">H", len(parameters)) + parameters + record[8 + old :]
    entry = stsd[8:start] + struct.pack(">I", 8 + len(record)) + b"avcC" + record
    return stsd[:8] + struct.pack(">I", len(entry)) + entry[4:]


def _many_streams(chance: random.Random, bases: Bases) -> bytes:
    boxes = parse_boxes(chance.choice(bases.mp4s))
    for movie in (box for box in boxes if box.kind == b"moov"):
        tracks = [box for box in movie.children if box.kind == b"trak"]
        movie.children += tracks * chance.choice((50, 900, 5000))
    return serialise_boxes(boxes)


def _deep_nesting(chance: random.Random, bases: Bases) -> bytes:
    boxes = parse_boxes(chance.choice(bases.mp4s))
    kind = chance.choice((b"moov", b"trak", b"mdia", b"stbl"))
    content = serialise_boxes([box for box in boxes if box.kind == b"moov"])
    for _ in range(chance.choice((20, 500))):
        content = struct.pack(">I", 8 + len(content)) + kind + content
    return serialise_boxes([box for box in boxes if box.kind != b"moov"]) + content


def _endless_samples(chance: random.Random, bases: Bases) -> bytes:
    """Sample tables that give millions of samples out of the same few bytes."""
    boxes = parse_boxes(chance.choice(bases.mp4s))
    number = chance.choice((10**6, 2 * 10**7, 2**31 - 1))
    size = chance.choice((0, 1, 900))
    tables = {
        b"stsz": struct.pack(">III", 0, size, number),
        b"stts": struct.pack(">IIII", 0, 1, number, chance.choice((0, 1, 40))),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, number, 1),
    }
    if chance.random() < 0.5:  # a chunk for each, all of them at one place
        number = chance.choice((3_000, 100_000))
        tables[b"stsz"] = struct.pack(">III", 0, max(1, size), number)
        tables[b"stsc"] = struct.pack(">IIIII", 0, 1, 1, 1, 1)
        tables[b"stco"] = struct.pack(">II", 0, number) + struct.pack(">I", 48) * number
    for box in walk(boxes):
        box.payload = tables.get(box.kind, box.payload)
    if chance.random() < 0.5:
        for box in walk(boxes):
            box.children = [child for child in box.children if child.kind not in (b"ctts", b"stss")]
    return serialise_boxes(boxes)


@functools.cache
def _flat_video(codec: str, container: str, width: int, height: int, num_frames: int) -> bytes:
    import numpy as np

    picture = np.full((height, width, 3), 90, np.uint8)
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24" if codec == "png" else "yuv420p"
    rendering = Rendering(
        codec=codec, container=container, width=width, height=height, num_frames=num_frames, pix_fmt=pix_fmt
    )
    return render_video(rendering, lambda _: picture)


def _bomb(chance: random.Random, bases: Bases) -> bytes:
    """Small files of large pictures, or of many: all of it valid."""
    return _flat_video(*chance.choice(bases.bombs))


def _no_media(chance: random.Random, bases: Bases) -> bytes:
    text = (
        b"<!DOCTYPE html><html><script>alert(1)</script></html>" * 40,
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"",
        b"\x00" * 4096,
    )
    head = chance.choice([clip[:48] for clip in bases.clips])
    return chance.choice((*text, chance.randbytes(4096), head + chance.randbytes(4096)))


def _of(media: str, change: Callable[[random.Random, bytes], bytes]) -> tuple[str, Callable[..., bytes]]:
    return media, lambda chance, bases: change(chance, chance.choice(_any(bases, media)))


KINDS: dict[str, tuple[str, Callable[[random.Random, Bases], bytes]]] = {
    "bit flips": _of("video", _flip),
    "bit flips in the head": _of("video", lambda chance, data: _flip(chance, data, 400)),
    "truncated": _of("video", _cut),
    "damaged range": _of("video", _damage_range),
    "extreme integers": _of("video", _write_extreme),
    "spliced": (
        "video",
        lambda chance, bases: _splice(chance, chance.choice(bases.clips), chance.choice(bases.clips)),
    ),
    "zero time base": ("video", _zero_time_base),
    "absurd duration": ("video", _absurd_duration),
    "table counts": (
        "video",
        lambda chance, bases: _field(chance, chance.choice(bases.mp4s), _COUNTS, _EXTREMES),
    ),
    "huge dimensions": ("video", _huge_dimensions),
    "many streams": ("video", _many_streams),
    "deep nesting": ("video", _deep_nesting),
    "endless samples": ("video", _endless_samples),
    "decompression bomb": ("video", _bomb),
    "no media": ("video", _no_media),
    "picture: bit flips": _of("image", _flip),
    "picture: truncated": _of("image", _cut),
    "picture: extreme integers": _of("image", _write_extreme),
    "picture: no media": ("image", _no_media),
    **{f"picture: {name}": ("image", make) for name, make in PICTURE_KINDS.items()},
}
