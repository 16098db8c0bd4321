"""Fetch frames by ranged reads: neighbours of one tar share a GET, threads share the waiting.

A row group's frames are in memory only while it is being written; the ranges of the next ones are
already under way, so the store is never idle while Parquet encodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from weave_data.errors import VerificationError
from weave_data.shard.addresses import FramePlaces, Int64Array
from weave_data.shard.images import image_problem
from weave_data.storage import RangeReader

__all__ = ["MAX_GAP_BYTES", "RangePlan", "gather_frames", "plan_ranges"]

MAX_GAP_BYTES = 16 << 10
"""Bytes between two frames worth reading to save a GET; a tar header and padding is 0.5 to 3 KiB."""

_LOOKAHEAD = 2  # row groups whose ranges are fetched while an earlier one is written


@dataclass(frozen=True)
class RangePlan:
    """The GETs for some frames.

    Attributes:
        tars: Key of each range's tar.
        starts: int64[num_ranges], first byte.
        stops: int64[num_ranges], half-open.
        range_of: int64[num_frames], which range holds a frame.
    """

    tars: tuple[str, ...]
    starts: Int64Array
    stops: Int64Array
    range_of: Int64Array


def plan_ranges(
    places: FramePlaces, first: int, last: int, *, max_gap_bytes: int = MAX_GAP_BYTES
) -> RangePlan:
    """Cover frames `[first, last)` of `places` with as few ranges as gaps of `max_gap_bytes` allow."""
    tar = places.tar_code[first:last]
    start = places.offset[first:last]
    stop = start + places.size_bytes[first:last]
    order = np.lexsort((start, tar))
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(tar[order]) != 0) | (start[order][1:] - stop[order][:-1] > max_gap_bytes)
    range_of = np.empty(len(order), np.int64)
    range_of[order] = np.cumsum(is_new) - 1
    heads = np.flatnonzero(is_new)
    return RangePlan(
        tars=tuple(places.tars[code] for code in tar[order][heads]),
        starts=start[order][heads],
        stops=np.maximum.reduceat(stop[order], heads) if len(heads) else heads,
        range_of=range_of,
    )


def gather_frames(
    places: FramePlaces, bounds: Sequence[tuple[int, int]], store: RangeReader, *, num_threads: int
) -> Generator[list[bytes], None, None]:
    """Yield the pictures (encoded, as they are stored) of each frame interval of `bounds`, in order.

    Args:
        places: Where the frames lie.
        bounds: Half-open intervals of frames, one per row group.
        store: The output that holds the tars.
        num_threads: GETs under way at once.

    Raises:
        VerificationError: Stored bytes are not the picture the index promises.
        StoreError: A range can't be read.
    """
    with ThreadPoolExecutor(num_threads, thread_name_prefix="gather") as pool:
        waiting: deque[tuple[int, RangePlan, list[Future[bytes]]]] = deque()
        try:
            for first, last in bounds:
                ranges = plan_ranges(places, first, last)
                waiting.append((first, ranges, _submit(ranges, store, pool)))
                if len(waiting) > _LOOKAHEAD:
                    yield _collect(places, *waiting.popleft())
            while waiting:
                yield _collect(places, *waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submit(ranges: RangePlan, store: RangeReader, pool: ThreadPoolExecutor) -> list[Future[bytes]]:
    spans = zip(ranges.tars, ranges.starts.tolist(), ranges.stops.tolist(), strict=True)
    return [pool.submit(store.get_range, tar, start, stop) for tar, start, stop in spans]


def _collect(places: FramePlaces, first: int, ranges: RangePlan, futures: list[Future[bytes]]) -> list[bytes]:
    blobs = [memoryview(future.result()) for future in futures]
    images = []
    for position, piece in enumerate(ranges.range_of.tolist()):
        frame = first + position
        start = int(places.offset[frame] - ranges.starts[piece])
        image = bytes(blobs[piece][start : start + int(places.size_bytes[frame])])
        _check(image, places, frame)
        images.append(image)
    return images


def _check(image: bytes, places: FramePlaces, frame: int) -> None:
    promised = int(places.size_bytes[frame])
    found = f"{len(image)} bytes instead of {promised}" if len(image) != promised else image_problem(image)
    if found is not None:
        raise VerificationError(
            f"{places.describe(frame)}: {found}; the tar and its index disagree, delete both and build again"
        )
