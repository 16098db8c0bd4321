"""Rows of a rank's slots, in order, read ahead: row group -> row -> encoded row.

    order (addresses) -> row groups, in order of need -> encode (JPEG decode, tokens) -> batch
                         `num_readers` threads,          `num_workers` threads,
                         as far as memory allows         `prefetch_steps` ahead

Threads, not processes: ranged reads, Parquet parsing and JPEG decoding all release the interpreter's
lock, a row's pixels need no copy between processes, and a killed rank leaves nothing behind. Batches
do not depend on the number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from weave_data.errors import StoreError
from weave_train.feed.disk_cache import DiskCache
from weave_train.feed.groups import GroupBuffer
from weave_train.feed.limits import FeedLimits
from weave_train.feed.shard_reader import ShardReader
from weave_train.feed.source import RowSource, WovenSource, group_name
from weave_train.feed.stats import FeedCounters, FeedStats
from weave_train.feed.threads import DaemonPool
from weave_train.order import BatchOrder, RowAddress

__all__ = ["RowFeed"]

EncodedT = TypeVar("EncodedT")


class RowFeed(Generic[EncodedT]):
    """Encoded rows of a rank's slots for consecutive global steps.

    Args:
        sources: What the order's addresses lead into.
        order: Says which rows.
        slots: The rank's slots.
        encode: Turns a woven row into what a batch is made of; called in worker threads.
        stop_step: Nothing is read ahead at or beyond this global step.
        limits: Threads, read-ahead, memory, deadlines, disk cache.

    Raises:
        ConfigError: The cache directory can't be used.
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
        self._limits = limits
        self._counters = FeedCounters()
        reader = ShardReader(limits.read_timeout_s, _disk_cache(limits), self._counters)
        self._sources = tuple(
            source.read_by(reader) if isinstance(source, WovenSource) else source for source in sources
        )
        max_bytes = int(limits.max_memory_mib * (1 << 20))
        self._buffer = GroupBuffer(self._sources, max_bytes=max_bytes, counters=self._counters)
        has_threads = limits.num_workers > 0
        self._workers = DaemonPool(limits.num_workers, name="weave-encode") if has_threads else None
        self._readers = DaemonPool(limits.num_readers, name="weave-read") if has_threads else None
        self._addresses: dict[int, list[RowAddress]] = {}
        self._pending: dict[int, list[tuple[RowAddress, Future[EncodedT]]]] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of the row groups in memory."""
        return self._buffer.held_bytes

    def batch(self, step: int) -> list[EncodedT]:
        """This rank's rows of a global step, in slot order; may be empty in an epoch's last batch.

        Raises:
            StoreError: A row group can't be read, or rows did not come in time; names the shard.
            WeaveError: A row can't be encoded.
        """
        with self._counters.timing("wait_seconds"):
            if self._workers is None or self._readers is None:
                return [self._load(address) for address in self._order.rows(step, self._slots)]
            self._forget_before(step)
            self._encode_ahead(step, self._workers, self._readers)
            rows = self._collect(step)
            self._read_far_ahead(step, self._readers)  # after, so that it does not hold up the first batch
            return rows

    def take_stats(self) -> FeedStats:
        """What was read, encoded and waited for since the last call, over all threads."""
        return self._counters.take()

    def close(self) -> None:
        """Drop what was read ahead and end the threads; one that hangs is left to die with the process."""
        self._pending.clear()
        for pool in (self._readers, self._workers):
            if pool is not None:
                pool.close()

    def _encode_ahead(self, step: int, workers: DaemonPool, readers: DaemonPool) -> None:
        """Read and encode the next steps; row groups are asked for in the order they are needed."""
        for ahead in (step, *self._next_steps(step, self._limits.prefetch_steps)):
            if ahead not in self._pending:
                addresses = self._rows(ahead)
                self._read_ahead(addresses, readers)
                self._pending[ahead] = [
                    (address, workers.submit(self._load, address)) for address in addresses
                ]

    def _read_far_ahead(self, step: int, readers: DaemonPool) -> None:
        for ahead in self._next_steps(step, self._limits.read_ahead_steps)[self._limits.prefetch_steps :]:
            if not self._read_ahead(self._rows(ahead), readers):
                return

    def _next_steps(self, step: int, num_steps: int) -> range:
        return range(step + 1, min(step + num_steps + 1, self._stop_step))

    def _read_ahead(self, addresses: Iterable[RowAddress], readers: DaemonPool) -> bool:
        return all(self._buffer.read_ahead(address, readers) for address in addresses)

    def _collect(self, step: int) -> list[EncodedT]:
        stop = time.monotonic() + self._limits.stall_timeout_s
        rows = []
        for address, future in self._pending.pop(step):
            try:
                rows.append(future.result(timeout=max(0.0, stop - time.monotonic())))
            except TimeoutError as error:
                if future.done():
                    raise
                name = group_name(self._sources[address.group.source_index], address.group)
                raise StoreError(
                    f"{name}: its row for step {step} did not come within {self._limits.stall_timeout_s:g} s "
                    "(feed.stall_timeout_s); look at the store and its network, then resume"
                ) from error
        self._addresses.pop(step, None)
        return rows

    def _forget_before(self, step: int) -> None:
        for known in (self._pending, self._addresses):
            for behind in [number for number in known if number < step]:
                del known[behind]

    def _rows(self, step: int) -> list[RowAddress]:
        if step not in self._addresses:
            self._addresses[step] = self._order.rows(step, self._slots)
        return self._addresses[step]

    def _load(self, address: RowAddress) -> EncodedT:
        row = self._buffer.take(address)
        with self._counters.timing("encode_seconds"):
            return self._encode(row)


def _disk_cache(limits: FeedLimits) -> DiskCache | None:
    if limits.cache_dir is None:
        return None
    return DiskCache(Path(limits.cache_dir), max_bytes=int(limits.cache_gib * (1 << 30)))
