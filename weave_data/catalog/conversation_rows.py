"""Records of a conversations file as columns, a batch of rows at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from weave_data.catalog.conversation_records import ConversationRecord, RecordError, parse_record
from weave_data.json_rows import json_rows
from weave_data.records import SAMPLE_SCHEMA

__all__ = ["RECORD_SCHEMA", "read_records"]

_BATCH_ROWS = 8192
_TURNS = SAMPLE_SCHEMA.field("conversations").type

RECORD_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # in its file, from 0
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("keys", SAMPLE_SCHEMA.field("clip_ids").type, nullable=False),
        pa.field("num_videos", pa.int32(), nullable=False),  # the first so many keys; the others are images
        pa.field("frames_per_video", pa.int32()),
        pa.field("conversations", _TURNS, nullable=False),
        pa.field("num_unused", pa.int32(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # null: well formed
        pa.field("detail", pa.string()),
    ]
)


def read_records(file: BinaryIO, *, name: str) -> pa.Table:
    """Read a file of records of whatever forms, streamed.

    Args:
        file: JSON array or JSON lines.
        name: Named in messages.

    Returns:
        RECORD_SCHEMA, in file order; a refused record has a reason and no media or turns.

    Raises:
        SourceError: The file is neither JSON array nor JSON lines, or breaks off.
    """
    rows = json_rows(file, name=name)
    batches, start = [], 0
    while batch := list(itertools.islice(rows, _BATCH_ROWS)):
        batches.append(_batch(batch, start))
        start += len(batch)
    return pa.Table.from_batches(batches, schema=RECORD_SCHEMA)


def _batch(rows: list[Any], start: int) -> pa.RecordBatch:
    parsed = [_parsed(row) for row in rows]
    records = [_EMPTY if isinstance(item, RecordError) else item for item in parsed]
    problems = [item if isinstance(item, RecordError) else None for item in parsed]
    ids = [p.record_id if p else r.record_id for r, p in zip(records, problems, strict=True)]
    columns = [
        pa.array(np.arange(start, start + len(rows))),
        pa.array(ids, pa.string()),
        _lists((record.keys for record in records), RECORD_SCHEMA.field("keys").type),
        pa.array([record.num_videos for record in records], pa.int32()),
        pa.array([record.frames_per_video for record in records], pa.int32()),
        _conversations(records),
        pa.array([record.num_unused for record in records], pa.int32()),
        pa.array([record.digest for record in records], pa.string()),
        pa.array([p and p.reason.value for p in problems], pa.string()),
        pa.array([p and p.detail for p in problems], pa.string()),
    ]
    return pa.record_batch(columns, schema=RECORD_SCHEMA)


_EMPTY = ConversationRecord("", (), 0, None, (), 0, "")


def _parsed(row: Any) -> ConversationRecord | RecordError:
    try:
        return parse_record(row)
    except RecordError as problem:
        return problem


def _lists(items: Iterator[tuple[str, ...]], data_type: pa.DataType) -> pa.ListArray:
    rows = list(items)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    flat = pa.array(list(itertools.chain.from_iterable(rows)), pa.string())
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=data_type)


def _conversations(records: list[ConversationRecord]) -> pa.ListArray:
    values = _lists((record.values for record in records), pa.list_(pa.string()))
    texts = values.flatten()
    # speakers alternate and every record has an even number of turns
    speakers = pa.array(["human", "gpt"]).take(pa.array(np.arange(len(texts)) % 2))
    turns = pa.StructArray.from_arrays([speakers, texts], fields=list(_TURNS.value_type))
    return pa.ListArray.from_arrays(values.offsets, turns, type=_TURNS)
