"""Read woven shards: one ranged GET per row group, footers cached per process.

Inline and reference shards are read by the same calls and give the same rows.

open_dataset(uri)                      -> WovenDataset(store, manifest)
read_row_group(store, shard, index)    -> pa.Table          1 GET (+ 1 per shard for its footer)
iter_rows(store, manifest, split=...)  -> WovenSample ...   in reading order
find_sample(store, manifest, id)       -> WovenSample       reads the sample_id column only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import WOVEN_SCHEMA, WovenSample
from weave_data.shard.footers import read_footer
from weave_data.shard.manifest import Manifest, ShardEntry
from weave_data.shard.publish import is_output, list_recipes, read_manifest
from weave_data.shard.reference import is_reference, materialise
from weave_data.shard.slices import num_row_groups
from weave_data.shard.sparse import SparseFile
from weave_data.storage import Store, open_store

__all__ = [
    "WovenDataset",
    "find_sample",
    "iter_rows",
    "load_manifest",
    "open_dataset",
    "read_row_group",
]

_FIND_THREADS = 8


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
    store: Store, shard: ShardEntry, index: int, *, columns: Sequence[str] | None = None
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
        return _read_stored(store, shard, footer, index, columns)
    if columns is not None and "frames" not in columns:
        stored = _read_stored(store, shard, footer, index, columns)
        return stored.replace_schema_metadata(WOVEN_SCHEMA.metadata)
    table = materialise(_read_stored(store, shard, footer, index, None), store)
    return table if columns is None else table.select(list(columns))


def _read_stored(
    store: Store, shard: ShardEntry, footer: pq.FileMetaData, index: int, columns: Sequence[str] | None
) -> pa.Table:
    if not 0 <= index < footer.num_row_groups:
        raise IndexError(f"{shard.path}: row group {index}, the shard has {footer.num_row_groups}")
    start, stop = _row_group_bytes(footer, index)
    return _parse(store.get_range(shard.path, start, stop), start, footer, index, shard, columns)


def _parse(
    data: bytes,
    start: int,
    footer: pq.FileMetaData,
    index: int,
    shard: ShardEntry,
    columns: Sequence[str] | None,
) -> pa.Table:
    sparse = SparseFile(data, start, shard.bytes)
    try:
        file = pq.ParquetFile(pa.PythonFile(sparse, mode="r"), metadata=footer, pre_buffer=False)
        return file.read_row_group(index, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise VerificationError(
            f"{shard.path}: row group {index} can't be parsed ({error}); run weave-data verify"
        ) from error


def iter_rows(
    store: Store, manifest: Manifest, *, split: str = "train", epoch: int = 0
) -> Iterator[WovenSample]:
    """Every sample of one split and epoch, in reading order, one row group in memory."""
    for shard in manifest.select(split=split, epoch=epoch):
        for index in range(num_row_groups(shard.rows, manifest.row_group_rows)):
            for row in read_row_group(store, shard, index).to_pylist():
                yield WovenSample.from_row(row)


def find_sample(store: Store, manifest: Manifest, sample_id: str) -> WovenSample:
    """Find a sample by id, reading no pixels but its own.

    Args:
        store: The output.
        manifest: The recipe to search.
        sample_id: Whole id, or a beginning that only one sample has.

    Raises:
        ConfigError: No sample, or several, have that id.
    """
    found: list[_Place] = []
    with ThreadPoolExecutor(_FIND_THREADS, thread_name_prefix="find") as pool:
        for shard in manifest.shards:
            found += _places_of(store, shard, sample_id, pool)
            if any(place.sample_id == sample_id for place in found):
                break
    exact = [place for place in found if place.sample_id == sample_id] or found
    if len(exact) != 1:
        known = "no sample has" if not exact else f"{len(exact)} samples have"
        raise ConfigError(f"{known} an id beginning with {sample_id!r} in recipe {manifest.recipe}")
    place = exact[0]
    footer = read_footer(store, place.shard)
    row = _read_stored(store, place.shard, footer, place.group, None).slice(place.row, 1)
    whole = materialise(row, store) if is_reference(footer) else row
    return WovenSample.from_row(whole.to_pylist()[0])


@dataclass(frozen=True)
class _Place:
    shard: ShardEntry
    group: int
    row: int
    sample_id: str


def _places_of(store: Store, shard: ShardEntry, prefix: str, pool: ThreadPoolExecutor) -> list[_Place]:
    footer = read_footer(store, shard)
    groups = range(footer.num_row_groups)
    found = []
    for group, ids in zip(
        groups, pool.map(lambda i: _read_ids(store, shard, footer, i), groups), strict=True
    ):
        rows = pc.indices_nonzero(pc.starts_with(ids, prefix)).to_pylist()
        found += [_Place(shard, group, row, ids[row].as_py()) for row in rows]
    return found


def _read_ids(store: Store, shard: ShardEntry, footer: pq.FileMetaData, index: int) -> pa.ChunkedArray:
    chunk = footer.row_group(index).column(0)  # sample_id is the schema's first leaf
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = store.get_range(shard.path, start, start + chunk.total_compressed_size)
    return _parse(data, start, footer, index, shard, ["sample_id"])["sample_id"]
