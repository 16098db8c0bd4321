"""A file of which only one interval is there: what pyarrow parses a fetched range through."""

from __future__ import annotations

import io

import pyarrow as pa

__all__ = ["ReadOnlyFile", "SparseFile"]


class ReadOnlyFile:
    """What seeking and asking come to for a file of known length; subclasses read at `_position`."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._position = 0
        self.closed = False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Current position."""
        return self._position

    def close(self) -> None:
        """Nothing is held."""
        self.closed = True

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Never."""
        return False


class SparseFile(ReadOnlyFile):
    """Seekable, read-only view of bytes `[start, start + len(data))` of a larger file.

    Args:
        data: The bytes that are there; never copied.
        start: Where they begin in the file.
        size_bytes: Length of the whole file.
    """

    def __init__(self, data: bytes, start: int, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._buffer = pa.py_buffer(data)
        self._start = start

    def read_buffer(self, size: int = -1) -> pa.Buffer:
        """Next `size` bytes without a copy; pyarrow prefers this to `read`.

        Raises:
            OSError: Part of them was not fetched.
        """
        stop = self._size_bytes if size < 0 else min(self._position + size, self._size_bytes)
        first, last = self._position - self._start, stop - self._start
        if first < 0 or last > self._buffer.size:
            raise OSError(f"bytes [{self._position}, {stop}) are outside the fetched range")
        self._position = stop
        return self._buffer.slice(first, last - first)

    def read(self, size: int = -1) -> bytes:
        """Next `size` bytes as a copy."""
        return self.read_buffer(size).to_pybytes()
