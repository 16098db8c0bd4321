"""The Parquet layout of a woven shard, pinned: same rows, same bytes.

`frames` and every text are stored without statistics; `frames` also without compression and
dictionary, because zstd gains nothing on JPEG bytes and costs three quarters of the reading speed.
Addresses of reference shards are compressed like the texts.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.errors import VerificationError
from weave_data.records import WOVEN_SCHEMA
from weave_data.shard.reference import REFERENCE_SCHEMA

__all__ = ["FOOTER_TAIL_BYTES", "FRAMES_PATH", "footer_span", "open_writer", "parse_footer"]

FRAMES_PATH = "frames.list.element"

FOOTER_TAIL_BYTES = 8
"""A Parquet file ends with the footer's length (uint32, little endian) and `PAR1`."""

_DICTIONARY_COLUMNS = ["recipe", "strategy", "split"]
_STATISTICS_COLUMNS = ["epoch", "num_frames", "width", "height", "text_bytes"]

_ADDRESS_PATHS = ("frame_tar.list.element", "frame_offset.list.element", "frame_bytes.list.element")
_TEXT_PATHS = (
    "sample_id",
    "frame_clip.list.element",
    "frame_index.list.element",
    "frame_seconds.list.element",
    "clips.list.element.clip_id",
    "clips.list.element.key",
    "clips.list.element.caption",
    "clips.list.element.cluster_id",
    "clips.list.element.num_frames",
    "conversations.list.element.from",
    "conversations.list.element.value",
    *_DICTIONARY_COLUMNS,
    *_STATISTICS_COLUMNS,
)

_COMMON: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "data_page_size": 1 << 20,
    "dictionary_pagesize_limit": 1 << 20,
    "write_batch_size": 1024,
    "use_compliant_nested_type": True,
    "store_schema": True,
    "write_page_index": False,
    "write_page_checksum": False,
    "use_byte_stream_split": False,
    "write_statistics": _STATISTICS_COLUMNS,
}

_INLINE_OPTIONS: dict[str, Any] = {
    **_COMMON,
    "use_dictionary": _DICTIONARY_COLUMNS,
    "column_encoding": {FRAMES_PATH: "PLAIN"},
    "compression": {FRAMES_PATH: "NONE", **dict.fromkeys(_TEXT_PATHS, "ZSTD")},
    "compression_level": dict.fromkeys(_TEXT_PATHS, 3),
}

_REFERENCE_OPTIONS: dict[str, Any] = {
    **_COMMON,
    "use_dictionary": [*_DICTIONARY_COLUMNS, _ADDRESS_PATHS[0]],
    "compression": dict.fromkeys((*_ADDRESS_PATHS, *_TEXT_PATHS), "ZSTD"),
    "compression_level": dict.fromkeys((*_ADDRESS_PATHS, *_TEXT_PATHS), 3),
}


def open_writer(sink: Any, *, pixels: str = "inline") -> pq.ParquetWriter:
    """Parquet writer of a shard; one `write_table` call is one row group.

    Args:
        sink: Path or file.
        pixels: `inline` for `records.WOVEN_SCHEMA`, `reference` for `reference.REFERENCE_SCHEMA`.
    """
    if pixels == "reference":
        return pq.ParquetWriter(sink, REFERENCE_SCHEMA, **_REFERENCE_OPTIONS)
    return pq.ParquetWriter(sink, WOVEN_SCHEMA, **_INLINE_OPTIONS)


def footer_span(tail: bytes, size_bytes: int, *, name: str) -> tuple[int, int]:
    """Footer `[start, stop)` within a file of `size_bytes`, from its last 8 bytes.

    The span includes those 8 bytes, so it is one GET and ends with the file.

    Raises:
        VerificationError: The file does not end like Parquet.
    """
    length = int.from_bytes(tail[-8:-4], "little") + FOOTER_TAIL_BYTES
    if tail[-4:] != b"PAR1" or length > size_bytes:
        raise VerificationError(f"{name}: not a Parquet file (ends {tail[-4:]!r}); delete it and build again")
    return size_bytes - length, size_bytes


def parse_footer(footer: bytes, *, name: str) -> pq.FileMetaData:
    """Metadata from the footer's bytes alone, without the file.

    Raises:
        VerificationError: The bytes are not a footer.
    """
    footer_span(footer, len(footer), name=name)
    try:
        return pq.read_metadata(pa.BufferReader(b"PAR1" + footer))
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(f"{name}: the Parquet footer can't be read: {error}") from error
