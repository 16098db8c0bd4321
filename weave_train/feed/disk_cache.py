"""Row groups kept on local disk, for all ranks of a machine and for later runs. No locks.

    DIRECTORY/<2 characters of the name>/<name>.group    checksum, then an Arrow stream
    DIRECTORY/.writing-<unique>                           what a killed writer leaves; swept later

A name says the content (sha256 of the shard and number of the group), so an entry is never stale, and
two ranks that write it write the same. Entries appear by rename, whole or not at all; a damaged one
(power loss) fails its checksum, is removed and read anew. Use marks an entry's modification time; the
longest unused go when the directory has grown by a hundredth of its limit since this process last
looked, down to nine tenths. The limit so holds for up to ten processes that fill it together.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import uuid
import warnings
import zlib
from pathlib import Path

import pyarrow as pa

from weave_data.errors import ConfigError

__all__ = ["DiskCache"]

_HEADER = struct.Struct("<8sIQ")
_MAGIC = b"weavegr1"
_SUFFIX = ".group"
_WRITING = ".writing-"
_ABANDONED_SECONDS = 3600.0


class DiskCache:
    """Tables under names that say their content.

    Args:
        directory: Made when it is not there.
        max_bytes: Kept at most.

    Raises:
        ConfigError: The directory can't be made or written.
    """

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._written_bytes = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = self._unfinished()
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"feed.cache_dir: {directory}: {error.strerror}; give a writable one"
            ) from error
        self.sweep()

    def get(self, name: str) -> pa.Table | None:
        """The table under a name; None when it is not there, or damaged."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        body = memoryview(data)[_HEADER.size :]
        try:
            if _HEADER.unpack_from(data) == (_MAGIC, zlib.crc32(body), len(body)):
                return pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        except (struct.error, pa.ArrowException):
            pass
        path.unlink(missing_ok=True)
        return None

    def put(self, name: str, table: pa.Table) -> None:
        """Keep a table. A full disk costs the entry and a warning, not the run."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        body = sink.getvalue()
        if _HEADER.size + body.size > self._max_bytes:
            return
        path, unfinished = self._path(name), self._unfinished()
        try:
            path.parent.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(_HEADER.pack(_MAGIC, zlib.crc32(body), body.size))
                file.write(body)
            unfinished.replace(path)
        except OSError as error:
            warnings.warn(f"feed.cache_dir: {path}: {error.strerror}; not kept", stacklevel=2)
            with contextlib.suppress(OSError):
                unfinished.unlink()
            return
        self._written_bytes += _HEADER.size + body.size
        if self._written_bytes > self._max_bytes // 100:
            self.sweep()

    def sweep(self) -> None:
        """Remove the longest unused entries beyond nine tenths of the limit, and killed writers' files."""
        self._written_bytes = 0
        self._remove_abandoned()
        entries = sorted(self._entries())
        surplus = sum(size for _, size, _ in entries) - self._max_bytes * 9 // 10
        for _, size_bytes, path in entries:
            if surplus <= 0:
                return
            with contextlib.suppress(OSError):  # another rank was first
                Path(path).unlink()
            surplus -= size_bytes

    def _entries(self) -> list[tuple[int, int, str]]:
        """(last use in ns, bytes, path) of every entry."""
        found = []
        for folder in self._directory.iterdir():
            if not folder.is_dir():
                continue
            with os.scandir(folder) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat()
                        if file.name.endswith(_SUFFIX):
                            found.append((status.st_mtime_ns, status.st_size, file.path))
        return found

    def _remove_abandoned(self) -> None:
        for file in self._directory.glob(f"{_WRITING}*"):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    file.unlink()

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / f"{name}{_SUFFIX}"

    def _unfinished(self) -> Path:
        return self._directory / f"{_WRITING}{uuid.uuid4().hex}"
