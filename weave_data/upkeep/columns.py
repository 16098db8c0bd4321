"""Columns of stored Parquet objects by ranged reads: ids and texts of a shard cost no pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.errors import VerificationError
from weave_data.shard.sparse import ReadOnlyFile
from weave_data.storage import Store

__all__ = ["StoredFile", "iter_columns", "open_parquet"]

_TAIL_BYTES = 64 << 10


class StoredFile(ReadOnlyFile):
    """Seekable, read-only file over one object; its end, where Parquet's footer lies, is read once.

    Args:
        store: Where it is.
        key: Its key.
        size_bytes: Its length.
    """

    def __init__(self, store: Store, key: str, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._store, self._key = store, key
        self._tail_start = max(0, size_bytes - _TAIL_BYTES)
        self._tail: bytes | None = None

    def read(self, size: int = -1) -> bytes:
        """Next `size` bytes, fewer only at the end."""
        start = self._position
        stop = self._size_bytes if size < 0 else min(start + size, self._size_bytes)
        self._position = stop
        if start < self._tail_start:
            return self._store.get_range(self._key, start, stop)
        if self._tail is None:
            self._tail = self._store.get_range(self._key, self._tail_start, self._size_bytes)
        return self._tail[start - self._tail_start : stop - self._tail_start]


def open_parquet(store: Store, key: str, size_bytes: int) -> pq.ParquetFile:
    """Open a stored Parquet object; a column chunk that is read is one ranged GET.

    Raises:
        VerificationError: It is not Parquet.
    """
    file = pa.PythonFile(StoredFile(store, key, size_bytes), mode="r")
    try:
        return pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"{store.uri}/{key}: not a readable Parquet file ({error})") from error


def iter_columns(store: Store, key: str, size_bytes: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of an object, one row group in memory.

    Args:
        store: Where it is.
        key: Its key.
        size_bytes: Its length.
        columns: Names, or dotted paths into lists and structs (`clips.list.element.clip_id`).
    """
    file = open_parquet(store, key, size_bytes)
    for index in range(file.num_row_groups):
        yield file.read_row_group(index, columns=list(columns), use_threads=False)
