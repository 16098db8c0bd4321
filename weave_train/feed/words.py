"""How long rows are, in words: what VideoWeave's sampler groups them by."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from weave_train.feed.source import RowSource, WovenSource
from weave_train.feed.texts import shard_texts

__all__ = ["lengths_table", "row_lengths"]

_NUM_THREADS = 16


def row_lengths(source: RowSource, data_epoch: int) -> pa.Table:
    """Whether each row has pixels, and its words.

    A woven recipe is asked for its texts, a few kilobytes a row group; pixels are not read.

    Args:
        source: Of rows.
        data_epoch: Index of the stored epoch.

    Returns:
        `is_multimodal` bool, `length` int32; a row for each row, in reading order.

    Raises:
        ConfigError: The source can't say.
        StoreError: Texts can't be read.
    """
    if isinstance(source, WovenSource):
        return _woven_lengths(source, data_epoch)
    table: pa.Table = source.lengths(data_epoch)  # type: ignore[attr-defined]
    return table


def lengths_table(conversations: pa.ChunkedArray, num_media: pa.ChunkedArray) -> pa.Table:
    """Words of each conversation.

    Args:
        conversations: list<struct{from, value}>[n].
        num_media: integer[n]; 0 is a row without pixels.

    Source:
        VideoWeave, `get_modality_lengths`: words between white space of all turns, `<image>` one of them.
    """
    words = [
        sum(len(turn["value"].split()) for turn in turns)
        for chunk in conversations.chunks
        for start in range(0, len(chunk), 4096)  # never all records as Python objects
        for turns in chunk.slice(start, 4096).to_pylist()
    ]
    is_multimodal = np.concatenate([np.zeros(0, bool), num_media.to_numpy() > 0])
    return pa.table({"is_multimodal": is_multimodal, "length": pa.array(words, pa.int32())})


def _woven_lengths(source: WovenSource, data_epoch: int) -> pa.Table:
    shards = source.epochs[data_epoch]
    with ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="weave-lengths") as pool:
        tables = list(pool.map(lambda shard: list(shard_texts(source, shard)), shards))
    texts = pa.concat_tables(itertools.chain.from_iterable(tables))
    return lengths_table(texts["conversations"], texts["num_frames"])
