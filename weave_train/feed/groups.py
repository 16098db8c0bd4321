"""Row groups in memory: each read once however many threads ask, bounded in bytes, freed row by row."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from weave_train.feed.source import RowSource
from weave_train.feed.stats import FeedCounters
from weave_train.feed.threads import DaemonPool
from weave_train.order import GroupKey, RowAddress

__all__ = ["GroupBuffer"]

_Row = Mapping[str, Any]
_Key = tuple[GroupKey, int]

_FIRST_GUESS_BYTES = 16 << 20


@dataclass(eq=False)
class _Group:
    """One row group: its rows, None where a row was taken, and the bytes of those that are left."""

    rows: Future[list[_Row | None]] = field(default_factory=Future)
    row_bytes: int = 0
    num_left: int = 0

    @property
    def size_bytes(self) -> int:
        return self.row_bytes * self.num_left


class GroupBuffer:
    """Rows of the groups that are read ahead or in use.

    A row leaves when it is taken: an order gives each row once an epoch. One that is asked for again
    is read again. What is needed now is always read; reading ahead stops where memory does.

    Args:
        sources: What the addresses lead into.
        max_bytes: Of all rows held.
        counters: Gets seconds and numbers of reads.
    """

    def __init__(self, sources: Sequence[RowSource], *, max_bytes: int, counters: FeedCounters) -> None:
        self._sources = tuple(sources)
        self._max_bytes = max_bytes
        self._counters = counters
        self._lock = threading.Lock()
        self._groups: OrderedDict[_Key, _Group] = OrderedDict()
        self._held_bytes = 0
        self._num_reading = 0
        self._largest_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the rows in memory."""
        with self._lock:
            return self._held_bytes

    def read_ahead(self, address: RowAddress, readers: DaemonPool) -> bool:
        """Begin to read an address' group; False when memory is full."""
        key = (address.group, address.epoch)
        with self._lock:
            if key in self._groups:
                return True
            expected = (self._num_reading + 1) * (self._largest_bytes or _FIRST_GUESS_BYTES)
            if self._held_bytes + expected > self._max_bytes:
                return False
            group = self._add(key)
        readers.submit(self._fill, group, key)
        return True

    def take(self, address: RowAddress) -> _Row:
        """The row at an address; reads its group when nobody has.

        Raises:
            WeaveError: What reading the group raised, for every row that waits for it.
        """
        key = (address.group, address.epoch)
        while True:
            with self._lock:
                group = self._groups.get(key)
                is_ours = group is None
                if group is None:
                    group = self._add(key)
                self._groups.move_to_end(key)
            if is_ours:
                self._fill(group, key)
            rows = group.rows.result()
            with self._lock:
                row, rows[address.row_index] = rows[address.row_index], None
                self._forget_row(key, group, is_taken=row is not None)
            if row is not None:
                return row

    def _add(self, key: _Key) -> _Group:
        self._num_reading += 1
        group = self._groups[key] = _Group()
        return group

    def _fill(self, group: _Group, key: _Key) -> None:
        (source_index, *place), epoch = key
        try:
            with self._counters.timing("read_seconds"):
                table = self._sources[source_index].read(*place, epoch=epoch)
                rows: list[_Row | None] = table.to_pylist()
        except BaseException as error:  # noqa: BLE001  belongs to those who wait for the rows
            with self._lock:
                self._num_reading -= 1
                self._groups.pop(key, None)
            group.rows.set_exception(error)
            return
        self._counters.add(num_reads=1)
        with self._lock:
            self._num_reading -= 1
            self._make_room(table.nbytes)
            group.num_left, group.row_bytes = len(rows), table.nbytes // max(1, len(rows))
            self._held_bytes += group.size_bytes
            self._largest_bytes = max(self._largest_bytes, table.nbytes)
        group.rows.set_result(rows)

    def _forget_row(self, key: _Key, group: _Group, *, is_taken: bool) -> None:
        if self._groups.get(key) is not group:
            return  # made room for others meanwhile
        if is_taken:
            group.num_left -= 1
            self._held_bytes -= group.row_bytes
        if group.num_left == 0 or not is_taken:
            self._drop(key)

    def _make_room(self, more_bytes: int) -> None:
        """Drop the longest unused groups, but for those that are being read."""
        for key in [known for known, group in self._groups.items() if group.num_left]:
            if self._held_bytes + more_bytes <= self._max_bytes:
                return
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        self._held_bytes -= self._groups.pop(key).size_bytes
