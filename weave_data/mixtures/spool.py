"""Records on disk in one file, put out in any order: a merge of a million never lies in memory."""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from weave_data.errors import SourceError
from weave_data.json_rows import BrokenRow, json_rows

__all__ = ["RowSpool", "read_rows", "write_rows"]


class RowSpool:
    """JSON texts of records, appended once and read by index. Use as a context manager.

    Args:
        folder: Where its file lies; it has no name and goes when the spool does.
    """

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._borders = array("q", [0])

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._borders) - 1

    def extend(self, rows: Iterable[Any]) -> range:
        """Append rows; their indices."""
        start = len(self)
        for row in rows:
            text = json.dumps(row).encode()
            self._file.write(text)
            self._borders.append(self._borders[-1] + len(text))
        return range(start, len(self))

    def write(self, path: Path, order: Sequence[int]) -> None:
        """Write the rows of these indices, in this order, as one JSON array."""
        self._file.flush()
        unfinished = path.with_name(f".{path.name}.writing")
        try:
            with unfinished.open("wb") as out:
                out.write(b"[")
                if len(self):
                    with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as texts:
                        for place, index in enumerate(order):
                            out.write(b", " if place else b"")
                            out.write(texts[self._borders[index] : self._borders[index + 1]])
                out.write(b"]")
            os.replace(unfinished, path)  # noqa: PTH105
        finally:
            unfinished.unlink(missing_ok=True)


def read_rows(path: Path, check: Callable[[Any, str], None] | None = None) -> Iterable[Any]:
    """Stream a file's records.

    Args:
        path: JSON array or JSON lines.
        check: Called with every record and `FILE: row N`; raises what is wrong with it.

    Raises:
        SourceError: Not there, not JSON, or a record that is no object.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror}); correct the path") from error
    with file:
        for number, row in enumerate(json_rows(file, name=str(path))):
            where = f"{path}: row {number}"
            if isinstance(row, BrokenRow):
                raise SourceError(f"{where}: {row.detail}; correct the file")
            if not isinstance(row, dict):
                raise SourceError(f"{where}: a record is an object, this is {type(row).__name__}; correct it")
            if check is not None:
                check(row, where)
            yield row


def write_rows(path: Path, rows: Iterable[Any]) -> int:
    """Write rows as one JSON array, in their order; how many there were."""
    with RowSpool(path.parent) as spool:
        order = spool.extend(rows)
        spool.write(path, order)
        return len(order)
