"""Rows of a rank's slots, in order, read ahead: row group -> row -> encoded row.

    order (addresses) -> row groups, one ranged GET each, shared -> encode (JPEG decode, tokens) -> batch
                         at most `max_groups` in memory              in `num_workers` threads

Threads, not processes: ranged reads, Parquet parsing and JPEG decoding all release the interpreter's
lock, a row's pixels need no copy between processes, and a killed rank leaves nothing behind. Batches
do not depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from weave_data.errors import ConfigError
from weave_data.shard import Manifest, ShardEntry, open_dataset, read_row_group
from weave_data.storage import Store
from weave_train.order import EpochOrder, RowAddress, TrainingOrder

__all__ = ["FeedLimits", "GroupReader", "RowFeed", "WovenSource", "open_source"]

EncodedT = TypeVar("EncodedT")


class GroupReader(Protocol):
    """Reads row groups of the epochs an order addresses."""

    def read(self, data_epoch: int, shard_index: int, group_index: int) -> pa.Table:
        """Rows of one group, `records.WOVEN_SCHEMA`."""
        ...


@dataclass(frozen=True)
class WovenSource:
    """One split of a published recipe.

    Attributes:
        epochs: Shards of each stored epoch, in reading order.
    """

    store: Store
    manifest: Manifest
    split: str
    epochs: tuple[tuple[ShardEntry, ...], ...]

    def read(self, data_epoch: int, shard_index: int, group_index: int) -> pa.Table:
        """Read one row group in one ranged GET."""
        return read_row_group(self.store, self.epochs[data_epoch][shard_index], group_index)

    def order(self, *, batch_rows: int, window_groups: int, seed: int) -> TrainingOrder:
        """Order of training over this split."""
        return TrainingOrder(
            [
                EpochOrder(
                    [shard.rows for shard in shards],
                    row_group_rows=self.manifest.row_group_rows,
                    batch_rows=batch_rows,
                    window_groups=window_groups,
                    seed=seed,
                )
                for shards in self.epochs
            ]
        )


def open_source(uri: str, *, split: str) -> WovenSource:
    """Open a woven data set for training; reads the manifest only.

    Raises:
        ConfigError: The uri names no recipe, or the recipe has no such split.
        StoreError: The store can't be reached.
    """
    dataset = open_dataset(uri)
    manifest = dataset.manifest
    numbers = sorted({shard.epoch for shard in manifest.shards if shard.split == split})
    if not numbers:
        splits = sorted({shard.split for shard in manifest.shards})
        raise ConfigError(
            f"dataset.split: {uri} has no split {split!r}; it has {', '.join(splits) or 'no rows at all'}"
        )
    epochs = tuple(manifest.select(split=split, epoch=number) for number in numbers)
    return WovenSource(dataset.store, manifest, split, epochs)


class _GroupCache:
    """Row groups in use. Many threads may ask for the same group; one of them reads it."""

    def __init__(self, reader: GroupReader, *, max_groups: int) -> None:
        self._reader = reader
        self._max_groups = max_groups
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, int, int], Future[pa.Table]] = OrderedDict()
        self.num_reads = 0

    def row(self, data_epoch: int, address: RowAddress) -> Mapping[str, Any]:
        key = (data_epoch, address.shard_index, address.group_index)
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

    def _fill(self, future: Future[pa.Table], key: tuple[int, int, int]) -> None:
        try:
            future.set_result(self._reader.read(*key))
        except BaseException as error:
            with self._lock:
                self._groups.pop(key, None)
            future.set_exception(error)
            raise


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
        reader: Reads row groups.
        order: Says which rows.
        slots: The rank's slots.
        encode: Turns a woven row into what a batch is made of; called in worker threads.
        stop_step: Nothing is read ahead at or beyond this global step.
        limits: Threads, read-ahead and memory.
    """

    def __init__(
        self,
        reader: GroupReader,
        order: TrainingOrder,
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
        self._cache = _GroupCache(reader, max_groups=limits.max_groups)
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
            return [self._load(*task) for task in self._tasks(step)]
        for ahead in range(step, max(step + 1, min(step + self._prefetch_steps + 1, self._stop_step))):
            if ahead not in self._pending:
                self._pending[ahead] = [self._pool.submit(self._load, *task) for task in self._tasks(ahead)]
        rows = [future.result() for future in self._pending.pop(step)]
        for behind in [known for known in self._pending if known < step]:
            del self._pending[behind]
        return rows

    def close(self) -> None:
        """Drop what was read ahead and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()

    def _tasks(self, step: int) -> list[tuple[int, RowAddress]]:
        epoch, _ = self._order.locate(step)
        data_epoch = self._order.data_epoch(epoch)
        return [(data_epoch, address) for address in self._order.rows(step, self._slots)]

    def _load(self, data_epoch: int, address: RowAddress) -> EncodedT:
        return self._encode(self._cache.row(data_epoch, address))


def _threads(num_workers: int) -> ThreadPoolExecutor | None:
    return ThreadPoolExecutor(num_workers, thread_name_prefix="weave-feed") if num_workers else None
