"""Find one sample by its id: in the plans, which hold all ids together, or else shard by shard.

A plan lies in shard order, so the place of an id in it is arithmetic away from its shard and row. That
is one request for 65,536 samples; where a plan is gone, every row group of every shard is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weave_data.errors import ConfigError
from weave_data.records import WovenSample
from weave_data.shard.footers import read_footer
from weave_data.shard.layout import FOOTER_TAIL_BYTES, footer_span, parse_footer
from weave_data.shard.manifest import Manifest, ShardEntry
from weave_data.shard.reader import parse_rows, read_stored
from weave_data.shard.reference import is_reference, materialise
from weave_data.storage import Store

__all__ = ["find_sample"]

_THREADS = 8


@dataclass(frozen=True)
class _Place:
    shard: ShardEntry
    group: int
    row: int
    sample_id: str


def find_sample(store: Store, manifest: Manifest, sample_id: str) -> WovenSample:
    """Find a sample by id, reading no pixels but its own row group's (its own, of a reference shard).

    Args:
        store: The output.
        manifest: The recipe to search.
        sample_id: Whole id, or a beginning that only one sample has.

    Raises:
        ConfigError: No sample, or several, have that id.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="find") as pool:
        planned = _in_plans(store, manifest, sample_id, pool)
        if planned is not None:
            place = _only(planned, manifest, sample_id)
            sample = _read(store, place)
            if sample.sample_id == place.sample_id:  # else the plan is of another order: the shards decide
                return sample
        return _read(store, _only(list(_in_shards(store, manifest, sample_id, pool)), manifest, sample_id))


def _only(found: list[_Place], manifest: Manifest, sample_id: str) -> _Place:
    exact = [place for place in found if place.sample_id == sample_id] or found
    if len(exact) != 1:
        known = "no sample has" if not exact else f"{len(exact)} samples have"
        raise ConfigError(f"{known} an id beginning with {sample_id!r} in recipe {manifest.recipe}")
    return exact[0]


def _read(store: Store, place: _Place) -> WovenSample:
    footer = read_footer(store, place.shard)
    row = read_stored(store, place.shard, footer, place.group, None).slice(place.row, 1)
    whole = materialise(row, store) if is_reference(footer) else row
    return WovenSample.from_row(whole.to_pylist()[0])


def _in_plans(store: Store, manifest: Manifest, prefix: str, pool: ThreadPoolExecutor) -> list[_Place] | None:
    """Places of the ids that begin with `prefix`; None when the plans can't tell."""
    plans = manifest.inputs.get("plans")
    epochs = sorted({shard.epoch for shard in manifest.shards})
    if not isinstance(plans, list) or len(plans) != len(epochs):
        return None
    found = []
    for epoch, (key, *_) in zip(epochs, plans, strict=True):
        info = store.head(key)
        shards = [shard for shard in manifest.shards if shard.epoch == epoch]
        if info is None:
            return None
        footer = _plan_footer(store, key, info.size_bytes)
        if footer.num_rows != sum(shard.rows for shard in shards):
            return None
        for position, sample_id in _hits(store, key, info.size_bytes, footer, prefix, pool):
            found.append(_place(shards, position, sample_id, manifest.row_group_rows))
    return found


def _plan_footer(store: Store, key: str, size_bytes: int) -> pq.FileMetaData:
    tail = store.get_range(key, size_bytes - FOOTER_TAIL_BYTES, size_bytes)
    return parse_footer(store.get_range(key, *footer_span(tail, size_bytes, name=key)), name=key)


def _place(shards: list[ShardEntry], position: int, sample_id: str, row_group_rows: int) -> _Place:
    for shard in shards:
        if position < shard.rows:
            return _Place(shard, position // row_group_rows, position % row_group_rows, sample_id)
        position -= shard.rows
    raise AssertionError("unreachable: the plan has as many rows as its shards")


def _in_shards(store: Store, manifest: Manifest, prefix: str, pool: ThreadPoolExecutor) -> Iterator[_Place]:
    for shard in manifest.shards:
        footer = read_footer(store, shard)
        for position, sample_id in _hits(store, shard.path, shard.bytes, footer, prefix, pool):
            yield _place([shard], position, sample_id, manifest.row_group_rows)
            if sample_id == prefix:
                return


def _hits(
    store: Store, key: str, size_bytes: int, footer: pq.FileMetaData, prefix: str, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, str]]:
    """(row, id) of the ids in a file that begin with `prefix`; only that column is read."""

    def read(index: int) -> pa.ChunkedArray:
        chunk = footer.row_group(index).column(0)  # sample_id is the first leaf of plans and shards
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data = store.get_range(key, start, start + chunk.total_compressed_size)
        return parse_rows(data, start, size_bytes, footer, index, name=key, columns=["sample_id"])[
            "sample_id"
        ]

    first = 0
    for ids in pool.map(read, range(footer.num_row_groups)):
        for row in pc.indices_nonzero(pc.starts_with(ids, prefix)).to_pylist():
            yield first + row, ids[row].as_py()
        first += len(ids)
