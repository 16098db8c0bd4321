"""The videos of a source as a table: what LIST says, kept as columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pyarrow as pa

from weave_data.errors import SourceError
from weave_data.storage import SourceRoot

__all__ = ["LISTING_SCHEMA", "check_videos", "list_videos", "nothing_found"]

LISTING_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("size_bytes", pa.int64(), nullable=False)]
)

_BATCH_KEYS = 65_536


def check_videos(source: SourceRoot) -> None:
    """Make sure that `source.videos` can be listed and holds something.

    Raises:
        SourceError: It can't or does not; the message names the setting.
    """
    try:
        source.check()
    except SourceError as error:
        raise SourceError(f"source.videos: {error}") from error


def list_videos(source: SourceRoot) -> pa.Table:
    """List a source once.

    Pages go into Arrow batches as they arrive: about 50 bytes a video instead of a Python object.

    Returns:
        `LISTING_SCHEMA`, by ascending key.

    Raises:
        SourceError: Not reachable, refused, or nothing there.
    """
    check_videos(source)
    found = iter(source.list())
    batches = []
    while page := list(itertools.islice(found, _BATCH_KEYS)):
        columns = [[info.key for info in page], [info.size_bytes for info in page]]
        batches.append(pa.record_batch(columns, schema=LISTING_SCHEMA))
    if not batches:
        raise SourceError(f"source.videos: {source.uri} holds no file; correct the address")
    return pa.Table.from_batches(batches, schema=LISTING_SCHEMA)


def nothing_found(
    units: Sequence[tuple[str, pa.Table]], listing: pa.Table, source: SourceRoot
) -> SourceError:
    """The error when rows name videos and none of them is there."""
    wanted = next(rows["key"][0].as_py() for _, rows in units if len(rows))
    return SourceError(
        f"source.videos: none of the catalog's videos is below {source.uri}: looked for {wanted!r}, it holds "
        f"{listing['key'][0].as_py()!r} and {len(listing) - 1} more; correct source.videos or source.path"
    )
