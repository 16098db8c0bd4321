"""What feeding cost: sums over threads since somebody last asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["FeedCounters", "FeedStats"]


@dataclass(frozen=True)
class FeedStats:
    """Sums over the threads of one feed.

    Attributes:
        read_seconds: Reading row groups: requests, retries and parsing.
        read_bytes: Received from the store.
        num_reads: Row groups read, those from the disk cache included.
        num_retries: Requests made again.
        encode_seconds: JPEG decoding, resizing, tokens.
        cache_hits: Row groups that came from the disk cache.
        wait_seconds: How long the caller stood in `batch`.
    """

    read_seconds: float = 0.0
    read_bytes: int = 0
    num_reads: int = 0
    num_retries: int = 0
    encode_seconds: float = 0.0
    cache_hits: int = 0
    wait_seconds: float = 0.0


class FeedCounters:
    """Counts from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = FeedStats()

    def add(self, **more: Any) -> None:
        """Add to the fields of `FeedStats` that are named."""
        with self._lock:
            old = self._stats
            self._stats = replace(old, **{name: getattr(old, name) + value for name, value in more.items()})

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the seconds the block takes, also when it fails."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{name: time.perf_counter() - begin})

    def take(self) -> FeedStats:
        """The sums so far; they begin anew."""
        with self._lock:
            taken, self._stats = self._stats, FeedStats()
            return taken
