"""How far a feed may run ahead, how long it may wait, what it may hold."""

from __future__ import annotations

from dataclasses import dataclass

from weave_train.config import PretrainConfig

__all__ = ["FeedLimits", "feed_limits"]


@dataclass(frozen=True)
class FeedLimits:
    """Bounds of one feed; none of them changes a batch.

    Attributes:
        num_workers: Threads that encode; 0 reads and encodes in the caller.
        prefetch_steps: Steps encoded ahead of the one asked for.
        read_ahead_steps: Steps whose row groups are read ahead, as far as memory allows.
        num_readers: Row groups read at once.
        max_memory_mib: Row groups read ahead or in use. Groups that are being mixed and don't fit are
            read again.
        read_timeout_s: One row group, over all attempts; a sixth longer where a reply dribbles. A group
            that failed while it was read ahead is tried once more when its rows are needed.
        stall_timeout_s: Rows of one step.
        cache_dir: Row groups are kept there; None: nowhere.
        cache_gib: At most so much.
    """

    num_workers: int = 2
    prefetch_steps: int = 2
    read_ahead_steps: int = 64
    num_readers: int = 8
    max_memory_mib: float = 4096
    read_timeout_s: float = 120.0
    stall_timeout_s: float = 600.0
    cache_dir: str | None = None
    cache_gib: float = 50.0


def feed_limits(config: PretrainConfig) -> FeedLimits:
    """Bounds that a run's configuration asks for."""
    feed = config.feed
    return FeedLimits(
        num_workers=config.num_workers,
        prefetch_steps=config.prefetch_steps,
        max_memory_mib=feed.max_memory_mib,
        read_timeout_s=feed.read_timeout_s,
        stall_timeout_s=feed.stall_timeout_s,
        cache_dir=feed.cache_dir,
        cache_gib=feed.cache_gib,
    )
