"""All files of a data set, and the list of what is there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from weave_data.download.archives import unpack
from weave_data.download.table import RemoteFile
from weave_data.download.to_jpeg import convert_to_jpeg
from weave_data.download.transfer import RetryPolicy, fetch_file
from weave_data.errors import SourceError
from weave_data.tables import sha256_hex

__all__ = ["DownloadedFile", "download_dataset"]

_LIST = "downloads.json"

OnFile = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class DownloadedFile:
    """One entry of `downloads.json`.

    Attributes:
        name: In the data set's folder.
        url: Where it came from.
        size_bytes, sha256: Of the file as it was fetched.
        num_unpacked: Files its archive gave; None: not unpacked (yet).
        num_converted: JPEGs written beside them.
    """

    name: str
    url: str
    size_bytes: int
    sha256: str
    num_unpacked: int | None = None
    num_converted: int = 0


def download_dataset(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    policy: RetryPolicy | None = None,
    on_file: OnFile | None = None,
) -> Iterator[DownloadedFile]:
    """Fetch, check and unpack what is missing of a data set; file by file, in the table's order.

    A file that is there is read and compared with `downloads.json`. An archive stays where it is
    after unpacking, so that it can be checked again; one that was unpacked and then removed is not
    fetched again.

    Args:
        files: Of `find_dataset`.
        folder: Where the data set goes; made if need be.
        policy: How patient to be.
        on_file: Called with a file's name, bytes had and bytes in all.

    Yields:
        Every file once it is complete.

    Raises:
        SourceError: A file can't be had or unpacked, or one that is there is not what was fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        done = _read_list(folder)
        entry = done.get(file.name)
        if entry is None or (entry.num_unpacked is None and not (folder / file.name).exists()):
            entry = _fetch(file, folder, policy, on_file)
        elif (folder / file.name).exists():
            _check(file, folder, entry)
        if file.unpack_to is not None and entry.num_unpacked is None:
            entry = _unpack(file, folder, entry)
        _write_list(folder, {**done, file.name: entry})
        yield entry


def _fetch(
    file: RemoteFile, folder: Path, policy: RetryPolicy | None, on_file: OnFile | None
) -> DownloadedFile:
    path = folder / file.name
    if path.exists():
        raise SourceError(f"{path}: was not fetched by this command; move it away, or use another folder")

    def on_bytes(have: int, total: int | None) -> None:
        if on_file is not None:
            on_file(file.name, have, total)

    fetched = fetch_file(file.url, path, sha256=file.sha256, policy=policy, on_bytes=on_bytes)
    entry = DownloadedFile(file.name, file.url, fetched.size_bytes, fetched.sha256)
    _write_list(folder, {**_read_list(folder), file.name: entry})
    return entry


def _check(file: RemoteFile, folder: Path, entry: DownloadedFile) -> None:
    found, wanted = sha256_hex(folder / file.name), file.sha256 or entry.sha256
    if found != wanted:
        raise SourceError(
            f"{folder / file.name}: sha256 {found}, {wanted} was fetched; the file changed: delete it and "
            f"its entry in {_LIST}, then run again"
        )


def _unpack(file: RemoteFile, folder: Path, entry: DownloadedFile) -> DownloadedFile:
    target = folder / (file.unpack_to or ".")
    num_unpacked = unpack(folder / file.name, target, strip_top=file.strip_top)
    num_converted = convert_to_jpeg(target) if file.to_jpeg else 0
    return dataclasses.replace(entry, num_unpacked=num_unpacked, num_converted=num_converted)


def _read_list(folder: Path) -> dict[str, DownloadedFile]:
    path = folder / _LIST
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {entry["name"]: DownloadedFile(**entry) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not a list of downloads ({error}); delete it and run again") from error


def _write_list(folder: Path, entries: dict[str, DownloadedFile]) -> None:
    path = folder / _LIST
    unfinished = path.with_name(f".{_LIST}.writing")
    text = json.dumps({"files": [dataclasses.asdict(entry) for entry in entries.values()]}, indent=1)
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, path)  # noqa: PTH105
