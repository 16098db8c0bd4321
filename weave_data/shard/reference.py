"""Shards that hold addresses instead of pixels, and how their rows become whole.

    inline     frames list<binary>                                      the hand-off format
    reference  frame_tar, frame_offset, frame_bytes (lists, one entry a frame)

A reference row is materialised by the code that writes inline shards: ranged reads of the frame tars,
neighbours in one request. A grid of recipes then costs its texts and about 20 bytes a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.records import WOVEN_SCHEMA
from weave_data.shard.addresses import FramePlaces, flat_list
from weave_data.shard.gather import gather_frames
from weave_data.storage import RangeReader

__all__ = [
    "REFERENCE_SCHEMA",
    "is_reference",
    "materialise",
    "places_of",
    "reference_columns",
    "rows_schema",
]

_NUM_THREADS = 16


def _list_of(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item, nullable=False))


_ADDRESS_FIELDS = (
    pa.field("frame_tar", _list_of(pa.dictionary(pa.int32(), pa.string())), nullable=False),
    pa.field("frame_offset", _list_of(pa.int64()), nullable=False),
    pa.field("frame_bytes", _list_of(pa.int32()), nullable=False),
)

REFERENCE_SCHEMA = pa.schema(
    [field for woven in WOVEN_SCHEMA for field in (_ADDRESS_FIELDS if woven.name == "frames" else (woven,))],
    metadata={**WOVEN_SCHEMA.metadata, b"weave_pixels": b"reference"},
)
"""`records.WOVEN_SCHEMA` with the key of each frame's tar (relative to the output), the offset of its
first byte and its length in place of `frames`."""


def rows_schema(pixels: str) -> pa.Schema:
    """Columns of a shard whose recipe says `pixels`."""
    return REFERENCE_SCHEMA if pixels == "reference" else WOVEN_SCHEMA


def is_reference(footer: pq.FileMetaData) -> bool:
    """True when a shard holds addresses, by its own columns."""
    return bool(footer.schema.column(1).path == "frame_tar.list.element")  # 0 is sample_id


def reference_columns(places: FramePlaces, first: int, last: int, offsets: Any) -> dict[str, pa.Array]:
    """The address columns of some rows.

    Args:
        places: Where frames lie.
        first: First frame of the rows.
        last: One past their last frame.
        offsets: int64[rows + 1], where each row's frames begin, relative to `first`.
    """
    # encoded anew for every row group: its dictionary holds the tars of its own rows and no others
    tars = pa.array(places.tars, pa.string()).take(pa.array(places.tar_code[first:last])).dictionary_encode()
    values = {
        "frame_tar": tars,
        "frame_offset": pa.array(places.offset[first:last]),
        "frame_bytes": pa.array(places.size_bytes[first:last].astype(np.int32)),
    }
    starts = pa.array(offsets.astype(np.int32))
    return {
        field.name: pa.ListArray.from_arrays(starts, values[field.name], type=field.type)
        for field in _ADDRESS_FIELDS
    }


def places_of(table: pa.Table) -> FramePlaces:
    """Where the frames of reference rows lie.

    Args:
        table: Rows of REFERENCE_SCHEMA.
    """
    tar, row_offsets = flat_list(table, "frame_tar")
    clips, clip_offsets = flat_list(table, "clips")
    frame_clip, _ = flat_list(table, "frame_clip")
    frame_row = np.repeat(np.arange(table.num_rows), np.diff(row_offsets))
    clip_position = clip_offsets[frame_row] + frame_clip.to_numpy(zero_copy_only=False)

    def numbers(name: str) -> Any:
        return flat_list(table, name)[0].to_numpy(zero_copy_only=False)

    return FramePlaces(
        row_offsets=row_offsets,
        tar_code=tar.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        tars=tuple(tar.dictionary.to_pylist()),
        offset=numbers("frame_offset").astype(np.int64),
        size_bytes=numbers("frame_bytes").astype(np.int64),
        seconds=numbers("frame_seconds").astype(np.float32),
        width=table["width"].to_numpy(),
        height=table["height"].to_numpy(),
        clip_id=clips.field("clip_id").take(pa.array(clip_position)),
        frame_index=numbers("frame_index").astype(np.int64),
    )


def materialise(table: pa.Table, store: RangeReader) -> pa.Table:
    """Fetch the frames of reference rows.

    Args:
        table: Rows of REFERENCE_SCHEMA.
        store: The output, which holds the frame tars.

    Returns:
        The same rows of `records.WOVEN_SCHEMA`, equal to those of an inline shard byte for byte.

    Raises:
        VerificationError: The bytes at an address are not a picture.
        StoreError: A tar is missing or can't be read.
    """
    places = places_of(table)
    bounds = [(0, len(places.offset))]
    (images,) = gather_frames(places, bounds, store, num_threads=_NUM_THREADS)
    field = WOVEN_SCHEMA.field("frames")
    starts = pa.array(places.row_offsets.astype(np.int32))
    frames = pa.ListArray.from_arrays(starts, pa.array(images, pa.binary()), type=field.type)
    columns = [frames if name == "frames" else table[name] for name in WOVEN_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=WOVEN_SCHEMA)
