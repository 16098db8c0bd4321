"""A store in a directory of a POSIX file system, without locks.

`put_new` writes a hidden file beside its target, fsyncs it and links it to the final name: `link`
fails when the name exists, `rename` would replace it silently. A killed writer leaves a hidden
file that no listing shows.

`replace` decides races by a *successor* link. The file that lies under a name now has an identity
(sha256, inode, mtime); its one successor is the hidden link `.<name>.next-<identity>`. Whoever
creates that link has replaced the content; everybody else finds it there. Showing the successor
under the public name (link + rename) is a step that anyone may repeat: a writer killed in between
is helped by the next one. Successor links stay, so a writer that slept through several
replacements can't create one a second time; each keeps one old manifest on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConflictError, SourceError, StoreError
from weave_data.storage.base import (
    Committed,
    ObjectInfo,
    check_key,
    check_range,
    check_size,
    sha256_of,
)

__all__ = ["LocalStore"]


@dataclass(frozen=True)
class LocalStore:
    """Objects as files below `root`; see the module for how they are committed.

    Args:
        root: The directory; made by the first write.
        readonly: Refuse writes and, in `check`, a root that does not exist.
    """

    root: Path
    readonly: bool = False

    @property
    def uri(self) -> str:
        """The root as a path."""
        return str(self.root)

    def check(self, *, write: bool = False) -> None:
        """See `Store.check`."""
        if self.readonly and not self.root.is_dir():
            raise SourceError(f"{self.root}: no such directory; correct the path")
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        if not existing.is_dir():
            raise SourceError(f"{existing}: is a file, a directory is needed; choose another output")
        if not self.readonly and not os.access(existing, os.W_OK | os.X_OK):
            raise SourceError(f"{existing}: not writable; choose another output or change its permissions")
        if write:
            key = f"runs/probe-{uuid.uuid4().hex}"
            self.put_new(key, b"")
            self.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`; one directory's names are in memory at a time, per level."""
        folder, slash, start = prefix.rpartition("/")
        if slash and any(name in ("", ".", "..") for name in folder.split("/")):
            return  # no key starts like this, a path could lead out of the root
        yield from self._walk(self.root / folder, f"{folder}/" if folder else "", start)

    def _walk(self, folder: Path, parent: str, start: str) -> Iterator[ObjectInfo]:
        with self._explaining(parent):
            try:
                with os.scandir(folder) as entries:
                    # a folder sorts as its name + "/", which is the order of whole keys
                    found = [
                        (f"{entry.name}/" if entry.is_dir() else entry.name)
                        for entry in entries
                        if entry.name.startswith(start) and not entry.name.startswith(".")
                    ]
            except (FileNotFoundError, NotADirectoryError):
                return
        for name in sorted(found, key=os.fsencode):
            if name.endswith("/"):
                yield from self._walk(folder / name, parent + name, "")
            else:
                with contextlib.suppress(FileNotFoundError):  # deleted while we walked
                    status = (folder / name).stat()
                    yield ObjectInfo(parent + name, status.st_size, modified=status.st_mtime)

    def head(self, key: str) -> ObjectInfo | None:
        """See `Store.head`; reads the file to hash it."""
        path = self._path(key)
        with self._explaining(key):
            try:
                status = path.stat()
                sha256 = sha256_of(path)
                return ObjectInfo(key, status.st_size, sha256=sha256, modified=status.st_mtime)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        with self._explaining(key):
            return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store.get_range`."""
        num_bytes = check_range(key, start, stop)
        with self._explaining(key), self._path(key).open("rb") as file:
            file.seek(start)
            data = file.read(num_bytes)
        if len(data) != num_bytes:
            raise StoreError(
                f"{self.uri}/{key}: bytes [{start}, {stop}) asked, {len(data)} there; the file is shorter "
                "than its index says: run `weave-data verify`"
            )
        return data

    def put_new(self, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
        """See `Store.put_new`."""
        self._check_writable(key)
        size_bytes = check_size(key, data)
        path = self._path(key)
        with self._explaining(key), _hidden_copy(path, data) as copy:
            try:
                os.link(copy, path)
            except FileExistsError:
                return Committed(key, sha256_of(path), path.stat().st_size, is_ours=False)
            _fsync_folder(path.parent)
        return Committed(key, sha256 or sha256_of(data), size_bytes, is_ours=True)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._check_writable(key)
        path = self._path(key)
        with self._explaining(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            _fsync_folder(path.parent)

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """See `Store.replace`, and the module for the protocol."""
        if expected is None:
            committed = self.put_new(key, data)
            if committed.sha256 != sha256_of(data):
                raise _conflict(self.uri, key, committed.sha256, "nothing")
            return
        self._check_writable(key)
        path = self._path(key)
        while True:
            with self._explaining(key):
                current, successor = _settle(path)
            if current == sha256_of(data):
                return
            if current != expected:
                raise _conflict(self.uri, key, current or "nothing", expected)
            with (
                self._explaining(key),
                _hidden_copy(path, data) as copy,
                contextlib.suppress(FileExistsError),  # another writer went first: look again
            ):
                os.link(copy, successor)
                _settle(path)
                return

    def hidden_files(self) -> Iterator[tuple[Path, float]]:
        """Files no listing shows, with the time they were written: unfinished copies of killed writers
        (`.tmp-*`) and the links that decided past replacements (`.<name>.next-*`).
        """
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(".tmp-") or (name.startswith(".") and ".next-" in name):
                    path = Path(folder) / name
                    with contextlib.suppress(FileNotFoundError):
                        yield path, path.stat().st_mtime

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _check_writable(self, key: str) -> None:
        if self.readonly:
            raise StoreError(f"{self.uri}/{key}: the store was opened read-only; open it for writing")

    @contextlib.contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"{self.uri}/{key}: no such file; run the build again to restore it") from error
        except OSError as error:
            raise StoreError(
                f"{self.uri}/{key}: {error.strerror}; correct the disk or its permissions"
            ) from error


def _conflict(uri: str, key: str, found: str, expected: str) -> ConflictError:
    return ConflictError(
        f"{uri}/{key}: holds sha256 {found}, expected {expected}; another writer replaced it: look at it, "
        "then run again"
    )


@contextlib.contextmanager
def _hidden_copy(target: Path, data: bytes | Path) -> Iterator[Path]:
    """Write `data`, durably, to a hidden file beside `target`; gone afterwards."""
    _make_folder(target.parent)
    copy = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with copy.open("xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _settle(path: Path) -> tuple[str | None, Path]:
    """Show the newest successor under `path`; return its sha256 and the name of its own successor."""
    while True:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                current = hashlib.sha256(file.read()).hexdigest()
        except FileNotFoundError:
            return None, path
        identity = f"{current[:16]}-{status.st_ino:x}-{status.st_mtime_ns:x}"
        successor = path.parent / f".{path.name}.next-{identity}"
        if not successor.exists():
            return current, successor
        shown = path.parent / f".tmp-{uuid.uuid4().hex}"
        os.link(successor, shown)
        shown.replace(path)
        shown.unlink(missing_ok=True)  # rename does nothing when both names are one file already
        _fsync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
