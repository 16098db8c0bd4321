"""Rows of a rank's slots, in order, read ahead: row group -> row -> encoded row.

    order (addresses) -> row groups, one ranged GET each, shared -> encode (JPEG decode, tokens) -> batch
                         at most `max_groups` in memory              in `num_workers` threads

Threads, not processes: ranged reads, Parquet parsing and JPEG decoding all release the interpreter's
lock, a row's pixels need no copy between processes, and a killed rank leaves nothing behind. Batches
do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from weave_train.feed.groups import GroupCache
from weave_train.feed.source import RowSource
from weave_train.order import BatchOrder, RowAddress

__all__ = ["FeedLimits", "RowFeed"]

EncodedT = TypeVar("EncodedT")


@dataclass(frozen=True)
class FeedLimits:
    """How far a feed may run ahead.

    Attributes:
        num_workers: Threads; 0 reads and encodes in the caller.
        prefetch_steps: Steps read ahead of the one asked for.
        max_groups: Row groups held in memory; at least those whose rows are being mixed.
    """

    num_workers: int = 2
    prefetch_steps: int = 2
    max_groups: int = 256


class RowFeed(Generic[EncodedT]):
    """Encoded rows of a rank's slots for consecutive global steps.

    Args:
        sources: What the order's addresses lead into.
        order: Says which rows.
        slots: The rank's slots.
        encode: Turns a woven row into what a batch is made of; called in worker threads.
        stop_step: Nothing is read ahead at or beyond this global step.
        limits: Threads, read-ahead and memory.
    """

    def __init__(
        self,
        sources: Sequence[RowSource],
        order: BatchOrder,
        *,
        slots: range,
        encode: Callable[[Mapping[str, Any]], EncodedT],
        stop_step: int,
        limits: FeedLimits,
    ) -> None:
        self._order = order
        self._slots = slots
        self._encode = encode
        self._stop_step = stop_step
        self._prefetch_steps = limits.prefetch_steps
        self._cache = GroupCache(sources, max_groups=limits.max_groups)
        self._pool = _threads(limits.num_workers)
        self._pending: dict[int, Sequence[Future[EncodedT]]] = {}

    @property
    def num_reads(self) -> int:
        """Row groups read so far."""
        return self._cache.num_reads

    def batch(self, step: int) -> list[EncodedT]:
        """This rank's rows of a global step, in slot order; may be empty in an epoch's last batch.

        Raises:
            WeaveError: A row group can't be read or a row can't be encoded.
        """
        if self._pool is None:
            return [self._load(address) for address in self._tasks(step)]
        for ahead in range(step, max(step + 1, min(step + self._prefetch_steps + 1, self._stop_step))):
            if ahead not in self._pending:
                self._pending[ahead] = [
                    self._pool.submit(self._load, address) for address in self._tasks(ahead)
                ]
        rows = [future.result() for future in self._pending.pop(step)]
        for behind in [known for known in self._pending if known < step]:
            del self._pending[behind]
        return rows

    def close(self) -> None:
        """Drop what was read ahead and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _tasks(self, step: int) -> list[RowAddress]:
        return self._order.rows(step, self._slots)

    def _load(self, address: RowAddress) -> EncodedT:
        return self._encode(self._cache.row(address))


def _threads(num_workers: int) -> ThreadPoolExecutor | None:
    return ThreadPoolExecutor(num_workers, thread_name_prefix="weave-feed") if num_workers else None
