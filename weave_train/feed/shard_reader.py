"""One row group of a shard, within a deadline: disk cache, then the store, again if need be.

    cached table --no--> ranged GETs, each with its own limits ---> parsed table -> cache
                          | busy, reset, silent, too slow: again, with jitter, until the deadline
                          `- anything else, or bytes that don't parse: once more, then an error

Retries are made here, not in the S3 client, so that they are counted and share one deadline.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field

import pyarrow as pa

from weave_data.errors import StoreError, VerificationError
from weave_data.shard import ShardEntry, read_row_group
from weave_data.storage import RequestLimits, Store, limit_reads
from weave_train.feed.disk_cache import DiskCache
from weave_train.feed.stats import FeedCounters

__all__ = ["PatientStore", "ShardReader"]

_BASE_SECONDS = 0.1
_CAP_SECONDS = 5.0


@dataclass(frozen=True)
class PatientStore:
    """Ranges of a store, asked for until a deadline.

    Attributes:
        stop: When to give up, on `time.monotonic`.
        patience_seconds: From the beginning to `stop`; a sixth of it is the longest silence, and one
            attempt may take a third of what is left.
    """

    store: Store
    stop: float
    patience_seconds: float
    counters: FeedCounters

    @property
    def uri(self) -> str:
        """The store's."""
        return self.store.uri

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store.get_range`.

        Raises:
            StoreError: Not there, refused, or not read before the deadline.
        """
        for attempt in itertools.count(1):
            try:
                data = limit_reads(self.store, self._limits()).get_range(key, start, stop)
            except StoreError as error:
                if not error.is_transient:
                    raise
                self._wait(attempt, error)
            else:
                self.counters.add(read_bytes=len(data))
                return data
            self.counters.add(num_retries=1)
        raise AssertionError("unreachable: an attempt returns or raises")

    def _limits(self) -> RequestLimits:
        sixth = self.patience_seconds / 6
        left = max(0.0, self.stop - time.monotonic())
        return RequestLimits(attempts=1, idle_seconds=sixth, total_seconds=min(left, max(sixth, left / 3)))

    def _wait(self, attempt: int, error: StoreError) -> None:
        pause = random.uniform(0, min(_CAP_SECONDS, _BASE_SECONDS * 2**attempt))  # noqa: S311  jitter
        if time.monotonic() + pause >= self.stop:
            raise StoreError(
                f"not read within {self.patience_seconds:g} s, {attempt} attempts; the last: {error}; "
                "raise feed.read_timeout_s if the store is only slow"
            ) from error
        time.sleep(pause)


@dataclass(frozen=True)
class ShardReader:
    """Reads row groups of woven shards.

    Attributes:
        timeout_seconds: One row group, all attempts.
        cache: Where row groups are kept; None: nowhere.
    """

    timeout_seconds: float = 120.0
    cache: DiskCache | None = None
    counters: FeedCounters = field(default_factory=FeedCounters)

    def read(self, store: Store, shard: ShardEntry, group_index: int) -> pa.Table:
        """Rows of one group, `records.WOVEN_SCHEMA`, inline and reference shards alike.

        Raises:
            StoreError: Not read in time; names shard and row group.
            VerificationError: Read twice, and not what the footer promises.
        """
        name = f"{shard.sha256}-{group_index}"
        table = None if self.cache is None else self.cache.get(name)
        if table is not None:
            self.counters.add(cache_hits=1)
            return table
        table = self._fetch(store, shard, group_index)
        if self.cache is not None:
            self.cache.put(name, table)
        return table

    def _fetch(self, store: Store, shard: ShardEntry, group_index: int) -> pa.Table:
        stop = time.monotonic() + self.timeout_seconds
        patient = PatientStore(store, stop, self.timeout_seconds, self.counters)
        is_last = False
        while True:
            try:
                return read_row_group(patient, shard, group_index)
            except (StoreError, VerificationError) as error:
                if is_last or time.monotonic() >= stop or _ran_out(error):
                    raise type(error)(f"{shard.path}, row group {group_index}: {error}") from error
            is_last = True
            self.counters.add(num_retries=1)


def _ran_out(error: Exception) -> bool:
    return isinstance(error.__cause__, StoreError)
