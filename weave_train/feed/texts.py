"""Texts of woven shards without their pixels: a few kilobytes a row group, in one ranged GET."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from weave_data.shard import ShardEntry, num_row_groups
from weave_data.shard.footers import read_footer
from weave_data.shard.reader import parse_rows
from weave_train.feed.source import WovenSource

__all__ = ["shard_texts"]

_COLUMNS = ("conversations", "num_frames")  # neighbours in the file, after the pixels


def shard_texts(
    source: WovenSource,
    shard: ShardEntry,
    *,
    groups: Iterable[int] | None = None,
    with_clips: bool = False,
) -> Iterator[pa.Table]:
    """`conversations` and `num_frames` of a shard's row groups, one table each.

    Args:
        source: Of the shard.
        shard: Of the source.
        groups: Which row groups, in this order; None: all of them.
        with_clips: `frame_clip`, too.

    Raises:
        StoreError: They can't be read.
        VerificationError: They can't be parsed.
    """
    columns = ("frame_clip", *_COLUMNS) if with_clips else _COLUMNS
    footer = read_footer(source.store, shard)
    for index in range(num_row_groups(shard.rows, source.group_rows)) if groups is None else groups:
        group = footer.row_group(index)
        chunks = [group.column(column) for column in range(group.num_columns)]
        mine = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in mine]
        stop = max(at + chunk.total_compressed_size for at, chunk in zip(starts, mine, strict=True))
        data = source.store.get_range(shard.path, min(starts), stop)
        yield parse_rows(
            data, min(starts), shard.bytes, footer, index, name=shard.path, columns=list(columns)
        )
