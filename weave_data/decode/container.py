"""What a file promises in its first bytes: enough to tell `truncated` from `not_a_video`.

A container that states its own length (MP4/MOV boxes, a Matroska segment, AVI's RIFF) and has fewer
bytes than that is truncated. Trailing bytes that are no box are ignored: many players pad files.
"""

from __future__ import annotations

from weave_data.errors import DecodeError

__all__ = ["check_promised_bytes"]

_BOXES = frozenset(
    b"ftyp styp moov moof mdat free skip wide udta meta uuid sidx ssix pnot prft mfra emsg pdin".split()
)
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"


def check_promised_bytes(data: bytes) -> None:
    """Raise DecodeError `empty_file` or `truncated` where the file is shorter than it says.

    Raises:
        DecodeError: `empty_file`: no bytes. `truncated`: a box, segment or RIFF chunk ends after the
            file does, or a QuickTime/MP4 file has media and no `moov`.
    """
    if not data:
        raise DecodeError("empty_file", "0 bytes")
    if data[4:8] in _BOXES:
        _check_boxes(data)
    elif data[:4] == _EBML_MAGIC:
        _check_segment(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        _check_length(data, "the RIFF chunk", 8 + int.from_bytes(data[4:8], "little"))


def _check_boxes(data: bytes) -> None:
    start, seen = 0, set()
    while start + 8 <= len(data):
        size, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if kind not in _BOXES:
            break
        seen.add(kind)
        if size == 1:  # a 64-bit size follows
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        elif size == 0:  # reaches to the end of the file
            size = len(data) - start
        if size < 8:
            break
        _check_length(data, f"box {kind.decode('ascii')!r} at {start}", start + size)
        start += size
    if b"moov" not in seen and b"mdat" in seen:
        raise DecodeError("truncated", f"{len(data)} bytes with media data but no moov box")


def _check_segment(data: bytes) -> None:
    header_size, start = _read_size(data, 4)
    segment = start + (header_size or 0)
    if data[segment : segment + 4] != _SEGMENT_ID:
        return
    size, start = _read_size(data, segment + 4)
    if size is not None:
        _check_length(data, "the Matroska segment", start + size)


def _read_size(data: bytes, position: int) -> tuple[int | None, int]:
    """EBML variable-length size at `position` (None: unknown) and the position after it."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return None, position + 1
    value = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    is_unknown = value == (1 << 7 * width) - 1
    return (None if is_unknown else value), position + width


def _check_length(data: bytes, what: str, promised_bytes: int) -> None:
    if promised_bytes > len(data):
        raise DecodeError(
            "truncated", f"{what} ends at byte {promised_bytes}, the file has {len(data)} bytes"
        )
