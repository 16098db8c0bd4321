"""Archives to files, without trusting what an archive says of itself."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from weave_data.errors import SourceError

__all__ = ["unpack"]

_CHUNK_BYTES = 1 << 20
_SLACK_BYTES = 1 << 30
_IGNORED_TOP = "__MACOSX"
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
)


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_file: bool
    size_bytes: int


def unpack(
    archive: Path,
    folder: Path,
    *,
    strip_top: bool = False,
    max_ratio: float = 20.0,
    max_members: int = 5_000_000,
) -> int:
    """Unpack a zip or tar; a file that is there already is replaced.

    All names are looked at before the first byte is written.

    Args:
        archive: `.zip`, or a tar with or without compression.
        folder: Where members go; made if need be.
        strip_top: Take the one top folder off all names.
        max_ratio: Unpacked bytes per archive byte; beyond it (and a GiB) it counts as a bomb. Pictures and
            videos give about 1.
        max_members: More count as a bomb too.

    Returns:
        Files written.

    Raises:
        SourceError: No archive or damaged, a name that leads out, a link or device, several top folders,
            or a bomb.
    """
    limit = int(archive.stat().st_size * max_ratio) + _SLACK_BYTES
    try:
        opened = _open(archive)
        with opened:
            members = [
                member for member in opened.members() if not member.name.startswith(f"{_IGNORED_TOP}/")
            ]
            _check(archive, members, limit, max_members)
            top = _top(archive, members) if strip_top else ""
            count = 0
            for member in members:
                if member.is_file:
                    place = folder / PurePosixPath(member.name.removeprefix(top))
                    _write(opened.open(member), place)
                    count += 1
            return count
    except _DAMAGED as error:
        raise SourceError(
            f"{archive}: damaged or no archive ({error}); delete it and fetch it again"
        ) from error


class _Zip:
    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path)

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self) -> Iterator[_Member]:
        for info in self._file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
            yield _Member(info.filename, info.is_dir(), is_file, info.file_size)

    def open(self, member: _Member) -> IO[bytes]:
        return self._file.open(member.name)


class _Tar:
    def __init__(self, path: Path) -> None:
        self._file = tarfile.open(path)  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self) -> Iterator[_Member]:
        for info in self._file:
            yield _Member(info.name, info.isdir(), info.isreg(), info.size)

    def open(self, member: _Member) -> IO[bytes]:
        opened = self._file.extractfile(member.name)
        if opened is None:
            raise tarfile.ReadError(f"{member.name} has no content")
        return opened


def _open(archive: Path) -> _Zip | _Tar:
    return _Zip(archive) if zipfile.is_zipfile(archive) else _Tar(archive)


def _check(archive: Path, members: list[_Member], limit: int, max_members: int) -> None:
    if len(members) > max_members:
        raise SourceError(
            f"{archive}: {len(members)} members, at most {max_members} are unpacked; look at it"
        )
    for member in members:
        parts = member.name.split("/")
        if member.name.startswith("/") or ".." in parts or "\\" in member.name or ":" in parts[0]:
            raise SourceError(
                f"{archive}: {member.name!r} leads out of the folder it is unpacked to; nothing was "
                "unpacked, don't trust this archive"
            )
        if not member.is_file and not member.is_folder:
            raise SourceError(
                f"{archive}: {member.name!r} is a link or a device; nothing was unpacked, look at the archive"
            )
    if sum(member.size_bytes for member in members) > limit:
        raise SourceError(
            f"{archive}: unpacks to more than {limit} bytes, {archive.stat().st_size} packed; it looks "
            "like a bomb: unpack it by hand if it is none"
        )


def _top(archive: Path, members: list[_Member]) -> str:
    tops = sorted({member.name.removeprefix("./").split("/")[0] for member in members})
    flat = [member.name for member in members if member.is_file and "/" not in member.name.removeprefix("./")]
    if len(tops) != 1 or flat:
        raise SourceError(
            f"{archive}: one top folder was expected, found {', '.join(tops[:5])}; the archive changed: "
            "unpack it by hand"
        )
    return f"{'./' if members[0].name.startswith('./') else ''}{tops[0]}/"


def _write(source: IO[bytes], place: Path) -> None:
    """Copy one member. Both readers stop at the size its header claims, which was added up before."""
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.unpacking")
    try:
        with source, unfinished.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
        os.replace(unfinished, place)  # noqa: PTH105
    finally:
        unfinished.unlink(missing_ok=True)
