"""Row groups in use, each read once however many threads ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pyarrow as pa

from weave_train.feed.source import RowSource
from weave_train.order import GroupKey, RowAddress

__all__ = ["GroupCache"]


class GroupCache:
    """Row groups in use. Many threads may ask for the same group; one of them reads it."""

    def __init__(self, sources: Sequence[RowSource], *, max_groups: int) -> None:
        self._sources = tuple(sources)
        self._max_groups = max_groups
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[GroupKey, int], Future[pa.Table]] = OrderedDict()
        self.num_reads = 0

    def row(self, address: RowAddress) -> Mapping[str, Any]:
        """The row at an address; reads its group when nobody has."""
        key = (address.group, address.epoch)
        with self._lock:
            future = self._groups.get(key)
            is_ours = future is None
            if future is None:
                future = self._groups[key] = Future()
                self.num_reads += 1
            self._groups.move_to_end(key)
            while len(self._groups) > self._max_groups:
                self._groups.popitem(last=False)
        if is_ours:
            self._fill(future, key)
        row: Mapping[str, Any] = future.result().slice(address.row_index, 1).to_pylist()[0]
        return row

    def _fill(self, future: Future[pa.Table], key: tuple[GroupKey, int]) -> None:
        (source_index, *place), epoch = key
        try:
            future.set_result(self._sources[source_index].read(*place, epoch=epoch))
        except BaseException as error:
            with self._lock:
                self._groups.pop(key, None)
            future.set_exception(error)
            raise
