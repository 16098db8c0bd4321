"""One object, or one layer, written anew without some clips; the old one stays until everything is there."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.catalog.removal import count_without, key_without, removal_identity
from weave_data.embed import embedding_path
from weave_data.records import StageCount, canonical_json, content_key
from weave_data.shard import Manifest, ShardEntry
from weave_data.shard.layout import FOOTER_TAIL_BYTES, footer_span, open_writer
from weave_data.storage import Store, commit_exact
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes
from weave_data.upkeep.holding import rows_holding, values_without, without_rows

__all__ = ["MovedTar", "Rewriter"]

_BLOCK_BYTES = 512
_READ_BYTES = 64 << 20
_METADATA_KEY = b"weave_layer"


@dataclass
class MovedTar:
    """Where the frames of a rewritten tar lie now: the new key, and old offset to new offset."""

    key: str
    offsets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rewriter:
    """Writes files without the removed clips.

    Attributes:
        store: The output.
        ids: string, the clip ids to leave out now.
        removed: sha256 of all ids ever taken down from this output, these among them.
    """

    store: Store
    ids: pa.Array
    removed: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """The ids as a set."""
        return frozenset(self.ids.to_pylist())

    def catalog(self, key: str) -> str:
        """Write a complete catalog without the clips; its new key."""
        target = key_without(key, self.removed)
        values = json.loads(self.store.get(f"catalog/{key}/catalog.json"))
        dropped, parts = 0, []
        for part in values["parts"]:
            table = self._table(f"catalog/{key}/{part['name']}.parquet")
            kept = without_rows(table, self.ids)
            dropped += len(table) - len(kept)
            if len(kept):
                sums = self._commit(f"catalog/{target}/{part['name']}.parquet", kept)
                parts.append({**part, "num_clips": len(kept), "sha256": sums})
        rejects = self._table(f"catalog/{key}/rejects.parquet")
        refused = Counter(rejects.filter(pa.array(rows_holding(rejects, self.ids)))["reason"].to_pylist())
        values |= {
            "key": target,
            "parts": parts,
            "count": count_without(StageCount.from_json(values["count"]), dropped, refused).to_json(),
            "rejects_sha256": self._commit(
                f"catalog/{target}/rejects.parquet", without_rows(rejects, self.ids)
            ),
        }
        if values.get("samples_sha256"):
            samples = without_rows(self._table(f"catalog/{key}/samples.parquet"), self.ids)
            sums = self._commit(f"catalog/{target}/samples.parquet", samples)
            values |= {"samples_sha256": sums, "num_samples": len(samples)}
        commit_exact(self.store, f"catalog/{target}/catalog.json", canonical_json(values))
        return target

    def table(self, room: str, key: str) -> dict[str, str]:
        """Write groups or a plan without the rows of the clips; old key and sum to the new ones."""
        data = self.store.get(key)
        name = content_key(room, of=key, removed=removal_identity(self.removed))
        table = without_rows(read_table_bytes(data), self.ids)
        new = f"{room}/{name}.parquet"
        return {key: new, sha256_hex(data): self._commit(new, table)}

    def rejects(self, old: str, new: str) -> None:
        """Write the rejects of a build under the fingerprint of the one that takes its place."""
        if self.store.head(f"rejects/{old}.parquet") is not None:
            kept = without_rows(self._table(f"rejects/{old}.parquet"), self.ids)
            self._commit(f"rejects/{new}.parquet", kept)

    def vectors(self, key: str) -> None:
        """Write a part's vectors without the clips, under the name the next build looks for."""
        _, embed_key, _, name = key.split("/")
        kept = without_rows(self._table(key), self.ids)
        if len(kept):
            clips = sha256_hex("\n".join(kept["clip_id"].to_pylist()).encode())
            part = name.removesuffix(".parquet").rpartition("-")[0]
            self._commit(embedding_path(embed_key, part, clips), kept)

    def layer(self, index_key: str) -> MovedTar | None:
        """Write a layer without the clips' frames; None when nothing of it is left."""
        folder, _, name = index_key.rpartition("/")
        name = name.removesuffix(".parquet")
        index = self._table(index_key)
        values = json.loads((index.schema.metadata or {})[_METADATA_KEY])
        kept = without_rows(index, self.ids)
        rejects = self._table(f"{folder}/{name}.rejects.parquet") if values["num_rejects"] else None
        kept_rejects = None if rejects is None else without_rows(rejects, self.ids)
        num_rejects = 0 if kept_rejects is None else len(kept_rejects)
        if not len(kept) and not num_rejects:
            return None
        new = content_key("layer", of=name, removed=removal_identity(self.removed))[:12]
        moved = MovedTar(f"{folder}/{new}.tar")
        tar_sha256 = self._tar(f"{folder}/{name}.tar", kept, moved)
        gone = Counter(rejects["reason"].to_pylist()) if rejects is not None else Counter()
        gone.subtract(kept_rejects["reason"].to_pylist() if kept_rejects is not None else ())
        old = StageCount.from_json(values["count"])
        count = dataclasses.replace(
            old,
            num_in=old.num_in - (len(index) - len(kept)) - sum(gone.values()),
            num_out=old.num_out - (len(index) - len(kept)),
            rejected={reason: n - gone[reason] for reason, n in old.rejected.items() if n - gone[reason]},
        )
        values = values_without(values, self.names, {}) | {
            "layer": new,
            "tar_sha256": tar_sha256,
            "num_rejects": num_rejects,
            "count": count.to_json(),
        }
        if kept_rejects is not None and num_rejects:
            self._commit(f"{folder}/{new}.rejects.parquet", kept_rejects)
        placed = _with_offsets(kept, moved.offsets)
        placed = placed.replace_schema_metadata({_METADATA_KEY: canonical_json(values)})
        self._commit(f"{folder}/{new}.parquet", placed)
        return moved

    def _tar(self, key: str, kept: pa.Table, moved: MovedTar) -> str:
        """Copy the members of the kept rows as they are; sha256 of the new tar."""
        offsets = _flat(kept, "frame_offset")
        padded = -(-_flat(kept, "frame_bytes").astype(np.int64) // _BLOCK_BYTES) * _BLOCK_BYTES
        starts, stops = offsets - _BLOCK_BYTES, offsets + padded
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory(prefix="remove-") as folder:
            path = Path(folder) / "layer.tar"
            with path.open("wb") as file:
                for first, last in _runs(starts, stops):
                    data = self.store.get_range(key, int(starts[first]), int(stops[last - 1]))
                    shift = file.tell() - int(starts[first])
                    moved.offsets.update((old, old + shift) for old in offsets[first:last].tolist())
                    file.write(data)
                    digest.update(data)
                end = bytes(2 * _BLOCK_BYTES)
                file.write(end)
                digest.update(end)
            return commit_exact(self.store, moved.key, path, sha256=digest.hexdigest()).sha256

    def shard(
        self, manifest: Manifest, shard: ShardEntry, fingerprint: str, moved: dict[str, MovedTar]
    ) -> ShardEntry | None:
        """Write a shard without the rows that hold a clip, addressing tars where they lie now.

        Returns:
            Its entry, below the directory of `fingerprint`; None when no row is left.
        """
        target = "/".join([manifest.recipe, fingerprint[:12], *shard.path.split("/")[2:]])
        with tempfile.TemporaryDirectory(prefix="remove-") as folder:
            old, new = Path(folder) / "old.parquet", Path(folder) / "new.parquet"
            with old.open("wb") as file:
                for start in range(0, shard.bytes, _READ_BYTES):
                    stop = min(start + _READ_BYTES, shard.bytes)
                    file.write(self.store.get_range(shard.path, start, stop))
            rows = 0
            waiting: list[pa.Table] = []
            with pq.ParquetFile(old) as source, contextlib.ExitStack() as stack:
                writer = stack.enter_context(open_writer(new, pixels=manifest.pixels))
                for index in range(source.num_row_groups):
                    table = source.read_row_group(index, use_threads=False)
                    table = table.filter(pa.array(~rows_holding(table, self.ids)))
                    waiting.append(_readdressed(table, moved))
                    rows += table.num_rows
                    waiting = _write_full(writer, waiting, manifest.row_group_rows)
                if sum(table.num_rows for table in waiting):
                    writer.write_table(pa.concat_tables(waiting).combine_chunks())
            if not rows:
                return None
            size = new.stat().st_size
            with new.open("rb") as file:
                file.seek(-FOOTER_TAIL_BYTES, 2)
                start, stop = footer_span(file.read(), size, name=target)
            committed = commit_exact(self.store, target, new)
        return dataclasses.replace(
            shard,
            path=target,
            rows=rows,
            bytes=size,
            sha256=committed.sha256,
            footer_offset=start,
            footer_bytes=stop - start,
        )

    def _table(self, key: str) -> pa.Table:
        return read_table_bytes(self.store.get(key))

    def _commit(self, key: str, table: pa.Table) -> str:
        return commit_exact(self.store, key, table_bytes(table)).sha256


def _runs(starts: Any, stops: Any) -> Iterator[tuple[int, int]]:
    """Ranges `[first, last)` of members that lie one behind the other, at most 64 MiB each."""
    first = 0
    for place in range(1, len(starts) + 1):
        is_over = place == len(starts) or starts[place] != stops[place - 1]
        if is_over or stops[place] - starts[first] > _READ_BYTES:
            yield first, place
            first = place


def _write_full(writer: pq.ParquetWriter, waiting: list[pa.Table], group_rows: int) -> list[pa.Table]:
    """Write the full row groups of what waits; the rest."""
    table = pa.concat_tables(waiting).unify_dictionaries()
    while table.num_rows >= group_rows:
        writer.write_table(table.slice(0, group_rows).combine_chunks())
        table = table.slice(group_rows)
    return [table]


def _flat(table: pa.Table, name: str) -> Any:
    column = table[name].combine_chunks()
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    return array.flatten().to_numpy(zero_copy_only=False)


def _relisted(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values in a list column of the same lengths."""
    place, kind = table.schema.get_field_index(name), table.schema.field(name)
    counts = table[name].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return table.set_column(place, kind, pa.ListArray.from_arrays(offsets, values, type=kind.type))


def _with_offsets(table: pa.Table, offsets: dict[int, int]) -> pa.Table:
    new = [offsets[offset] for offset in _flat(table, "frame_offset").tolist()]
    return _relisted(table, "frame_offset", pa.array(new, pa.int64())) if len(table) else table


def _readdressed(table: pa.Table, moved: dict[str, MovedTar]) -> pa.Table:
    """Rows of a reference shard with the addresses of rewritten tars."""
    if "frame_tar" not in table.column_names or not moved or not table.num_rows:
        return table
    tars = [str(name) for name in _flat(table, "frame_tar").tolist()]
    offsets = _flat(table, "frame_offset").tolist()
    places = [
        (moved[tar].key, moved[tar].offsets[offset]) if tar in moved else (tar, offset)
        for tar, offset in zip(tars, offsets, strict=True)
    ]
    item = table.schema.field("frame_tar").type.value_type
    names = pa.array([tar for tar, _ in places], pa.string())
    table = _relisted(table, "frame_tar", names.dictionary_encode().cast(item))
    return _relisted(table, "frame_offset", pa.array([offset for _, offset in places], pa.int64()))
