"""Rows of a JSON array or of JSON lines, one at a time: the file is never all in memory as objects.

A file that begins with `[` is an array, one that begins with `{` holds one object a line; its name
does not decide. Damage inside an array ends the file, damage in a line is that line's alone.
Half a surrogate pair, which is no text, becomes `?` in an array (YAJL's rule) and stays in a line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson

from weave_data.errors import SourceError

__all__ = ["BrokenRow", "json_rows"]

_BLOCK_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class BrokenRow:
    """A line that is not JSON; `detail` says what is wrong with it."""

    detail: str


def json_rows(file: BinaryIO, *, name: str) -> Iterator[Any]:
    """Stream the rows of a file.

    Args:
        file: Open for reading, at its start.
        name: Named in messages.

    Yields:
        Parsed values in file order, a `BrokenRow` for a line that is none.

    Raises:
        SourceError: Neither form, or an array that breaks off; the message says after which row.
    """
    reader = io.BufferedReader(file, _BLOCK_BYTES) if isinstance(file, io.RawIOBase) else file
    head, first = _head(reader)
    if first == b"[":
        yield from _array_rows(_Rest(head, reader), name)
    elif first == b"{":
        yield from _line_rows(_Rest(head, reader), name)
    elif first:
        raise SourceError(
            f"{name}: begins with {first!r}, a file of records begins with '[' (a JSON array) or '{{' (one "
            "object a line); convert it"
        )


def _head(file: BinaryIO) -> tuple[bytes, bytes]:
    """What was read to find the first byte that says something, and that byte."""
    head = b""
    while True:
        block = file.read(_BLOCK_BYTES)
        head = (head + block).removeprefix(_MARK).lstrip(b" \t\r\n")
        if head or not block:
            return head, head[:1]


class _Rest(io.RawIOBase):
    """Bytes already read, then the rest of a file."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = memoryview(head)
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block: bytes | memoryview = self._head[: len(buffer)]
        if block:
            self._head = self._head[len(block) :]
        else:
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _array_rows(file: _Rest, name: str) -> Iterator[Any]:
    num_rows = 0
    try:
        for value in ijson.items(file, "item", use_float=True, buf_size=_BLOCK_BYTES):
            yield value
            num_rows += 1
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(
            f"{name}: not JSON after {num_rows} rows ({reason}); fetch or write it again"
        ) from error


def _line_rows(file: _Rest, name: str) -> Iterator[Any]:
    for number, line in enumerate(io.BufferedReader(file, _BLOCK_BYTES)):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            if number == 0:
                raise SourceError(
                    f"{name}: begins with '{{' but its first line is no whole JSON object ({error}); records "
                    "are one JSON array, or one object a line"
                ) from error
            yield BrokenRow(f"line {number + 1} is not JSON ({error})")
