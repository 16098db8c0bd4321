"""Read woven shards: one ranged GET per row group, footers cached per process.

Inline and reference shards are read by the same calls and give the same rows.

open_dataset(uri)                      -> WovenDataset(store, manifest)
read_row_group(store, shard, index)    -> pa.Table          1 GET (+ 1 per shard for its footer)
iter_rows(store, manifest, split=...)  -> WovenSample ...   in reading order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import WOVEN_SCHEMA, WovenSample
from weave_data.shard.footers import read_footer
from weave_data.shard.manifest import Manifest, ShardEntry
from weave_data.shard.publish import is_output, list_recipes, read_manifest
from weave_data.shard.reference import is_reference, materialise
from weave_data.shard.slices import num_row_groups
from weave_data.shard.sparse import SparseFile
from weave_data.storage import RangeReader, Store, open_store

__all__ = [
    "WovenDataset",
    "iter_rows",
    "load_manifest",
    "open_dataset",
    "parse_rows",
    "read_row_group",
    "read_stored",
]


@dataclass(frozen=True)
class WovenDataset:
    """A published recipe and the output it lies in."""

    store: Store
    manifest: Manifest


def open_dataset(uri: str) -> WovenDataset:
    """Open a recipe by the uri of its manifest or of its directory.

    Args:
        uri: `OUTPUT/<recipe>`, `OUTPUT/<recipe>/manifest.json` or
            `OUTPUT/<recipe>/manifests/<fingerprint>.json`; a local path, `file://` or `s3://`.

    Raises:
        ConfigError: The uri names no recipe.
        StoreError: The store can't be reached.
        VerificationError: No such manifest, or of another schema version.
    """
    base = uri.rstrip("/")
    fingerprint = None
    if base.endswith(".json"):
        base, _, file = base.rpartition("/")
        if base.endswith("/manifests"):
            base, fingerprint = base.removesuffix("/manifests"), file.removesuffix(".json")
        elif file != "manifest.json":
            raise ConfigError(f"{uri}: not a manifest; give OUTPUT/<recipe> or OUTPUT/<recipe>/manifest.json")
    root, separator, recipe = base.rpartition("/")
    if not recipe or root.endswith(":/"):
        raise ConfigError(f"{uri}: names no recipe; give OUTPUT/<recipe>")
    store = open_store(root if separator else ".", readonly=True)
    _refuse_output(store, recipe, uri)
    return WovenDataset(store, read_manifest(store, recipe, fingerprint=fingerprint))


def load_manifest(uri: str) -> Manifest:
    """Manifest of `open_dataset(uri)`."""
    return open_dataset(uri).manifest


def _refuse_output(store: Store, recipe: str, uri: str) -> None:
    """Help who gave OUTPUT instead of OUTPUT/<recipe>."""
    if store.head(f"{recipe}/manifest.json") is not None or not is_output(store, f"{recipe}/"):
        return
    recipes = list_recipes(open_store(uri, readonly=True))
    raise ConfigError(
        f"{uri}: an output, not a recipe; give {uri.rstrip('/')}/<recipe>: {', '.join(recipes)}"
    )


def _row_group_bytes(footer: pq.FileMetaData, index: int) -> tuple[int, int]:
    """Bytes `[start, stop)` of all column chunks of one row group."""
    group = footer.row_group(index)
    starts, stops = [], []
    for column in range(group.num_columns):
        chunk = group.column(column)
        # a dictionary page lies before the data pages; 0 and None both mean there is none
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        starts.append(start)
        stops.append(start + chunk.total_compressed_size)
    return min(starts), max(stops)


def read_row_group(
    store: RangeReader, shard: ShardEntry, index: int, *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read one row group in one ranged GET; a reference shard's frames are gathered from their tars.

    Args:
        store: The output.
        shard: Its manifest entry.
        index: Row group within the shard, `0..num_row_groups(shard.rows, row_group_rows) - 1`.
        columns: Columns to parse; the GET covers all of them either way, but without `frames` a
            reference shard needs no other request.

    Returns:
        Rows of `records.WOVEN_SCHEMA`, the same for inline and reference shards.

    Raises:
        IndexError: No such row group.
        StoreError: The range can't be read.
        VerificationError: The bytes are not what the footer promises, or no picture is at an address.
    """
    footer = read_footer(store, shard)
    if not is_reference(footer):
        return read_stored(store, shard, footer, index, columns)
    if columns is not None and "frames" not in columns:
        stored = read_stored(store, shard, footer, index, columns)
        return stored.replace_schema_metadata(WOVEN_SCHEMA.metadata)
    table = materialise(read_stored(store, shard, footer, index, None), store)
    return table if columns is None else table.select(list(columns))


def read_stored(
    store: RangeReader,
    shard: ShardEntry,
    footer: pq.FileMetaData,
    index: int,
    columns: Sequence[str] | None,
) -> pa.Table:
    """Rows as they are stored: `read_row_group` without gathering the frames of a reference shard."""
    if not 0 <= index < footer.num_row_groups:
        raise IndexError(f"{shard.path}: row group {index}, the shard has {footer.num_row_groups}")
    start, stop = _row_group_bytes(footer, index)
    data = store.get_range(shard.path, start, stop)
    return parse_rows(data, start, shard.bytes, footer, index, name=shard.path, columns=columns)


def parse_rows(
    data: bytes,
    start: int,
    size_bytes: int,
    footer: pq.FileMetaData,
    index: int,
    *,
    name: str,
    columns: Sequence[str] | None,
) -> pa.Table:
    """Parse a row group of a Parquet file from some of its bytes.

    Args:
        data: Bytes of the file from `start` on; they hold every chunk of `columns`.
        start: Where they begin.
        size_bytes: Length of the file.
        footer: Its metadata.
        index: Which row group.
        name: The file, for messages.
        columns: Which columns; None for all.

    Raises:
        VerificationError: The bytes are not what the footer promises.
    """
    sparse = SparseFile(data, start, size_bytes)
    try:
        file = pq.ParquetFile(pa.PythonFile(sparse, mode="r"), metadata=footer, pre_buffer=False)
        return file.read_row_group(index, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(
            f"{name}: row group {index} can't be parsed ({error}); run weave-data verify"
        ) from error


def iter_rows(
    store: Store, manifest: Manifest, *, split: str = "train", epoch: int = 0
) -> Iterator[WovenSample]:
    """Every sample of one split and epoch, in reading order, one row group in memory."""
    for shard in manifest.select(split=split, epoch=epoch):
        for index in range(num_row_groups(shard.rows, manifest.row_group_rows)):
            for row in read_row_group(store, shard, index).to_pylist():
                yield WovenSample.from_row(row)
