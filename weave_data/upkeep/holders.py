"""Everything in an output that holds one of some clip ids, by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from weave_data.shard import Manifest
from weave_data.storage import ObjectInfo, Store
from weave_data.upkeep.columns import iter_columns, open_parquet
from weave_data.upkeep.holding import bytes_hold, parquet_holds, rows_holding

__all__ = ["Holders", "ShardHolding", "find_holders", "hold_rows", "shards_of", "still_unfinished"]


@dataclass(frozen=True)
class ShardHolding:
    """How much of a shard goes: rows that hold a clip, the clips in them, the removed ones among these."""

    rows: int
    clips: int
    removed: int


@dataclass
class Holders:
    """Keys of objects that hold a clip.

    Attributes:
        catalogs: Keys of complete catalogs, holding or not: all of them get the new key.
        tables: `groups/`, `plans/`, `rejects/`, `embeddings/`, `duplicates/`, `similarities/`.
        layers: Index objects of layers; of the index or of its rejects.
        unfinished: Objects without what makes them complete, which can't be looked into: they go.
        shards: Shards that hold a clip.
        others: Whatever else: `runs/`, `retries/`, files this package does not know.
        num_bytes: Of all of them.
    """

    catalogs: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    shards: dict[str, ShardHolding] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """True when nothing but catalogs was found."""
        return not (self.tables or self.layers or self.unfinished or self.shards or self.others)


def find_holders(store: Store, ids: pa.Array) -> Holders:
    """Look into every object of an output; of tables only the columns that hold ids."""
    found = Holders()
    infos = list(store.list(""))
    keys = {info.key for info in infos}
    for info in infos:
        room = info.key.partition("/")[0]
        match room:
            case "catalog":
                _catalog(info, keys, found)
            case "frames" if info.key.count("/") == 4:
                _frames(store, info, keys, ids, found)
            case "groups" | "plans" | "rejects" | "embeddings" | "duplicates" | "similarities":
                if parquet_holds(store, info.key, info.size_bytes, ids):
                    found.tables.append(info.key)
                    found.num_bytes += info.size_bytes
            case "removed":
                pass
            case _ if info.key.rpartition("/")[2].startswith("shard-"):
                _shard(store, info, ids, found)
            case _ if _holds(store, info, ids):
                found.others.append(info.key)
    return found


def _catalog(info: ObjectInfo, keys: set[str], found: Holders) -> None:
    folder, _, name = info.key.rpartition("/")
    if name == "catalog.json":
        found.catalogs.append(folder.rpartition("/")[2])
    elif f"{folder}/catalog.json" not in keys:
        found.unfinished.append(info.key)


def _shard(store: Store, info: ObjectInfo, ids: pa.Array, found: Holders) -> None:
    holding = hold_rows(store, info, ids)
    if holding.rows:
        found.shards[info.key] = holding
        found.num_bytes += info.size_bytes


def _frames(store: Store, info: ObjectInfo, keys: set[str], ids: pa.Array, found: Holders) -> None:
    stem = info.key.rpartition("/")[0] + "/" + info.key.rpartition("/")[2].partition(".")[0]
    if f"{stem}.parquet" not in keys:
        found.unfinished.append(info.key)
        return
    if info.key.endswith(".parquet") and parquet_holds(store, info.key, info.size_bytes, ids):
        found.num_bytes += info.size_bytes
        if f"{stem}.parquet" not in found.layers:
            found.layers.append(f"{stem}.parquet")


def hold_rows(store: Store, info: ObjectInfo, ids: pa.Array) -> ShardHolding:
    """Read a shard's clip ids, no pixels."""
    rows = clips = removed = 0
    for table in iter_columns(store, info.key, info.size_bytes, ["clips.list.element.clip_id"]):
        held = table.filter(pa.array(rows_holding(table, ids)))
        flat = pa.concat_tables([held]).column("clips").combine_chunks()
        arrays = flat.chunks if isinstance(flat, pa.ChunkedArray) else [flat]
        members = [name for array in arrays for name in array.flatten().field("clip_id").to_pylist()]
        known = set(ids.to_pylist())
        rows += held.num_rows
        clips += len(members)
        removed += sum(name in known for name in members)
    return ShardHolding(rows, clips, removed)


def _holds(store: Store, info: ObjectInfo, ids: pa.Array) -> bool:
    """Any other object: a table by its strings, anything else by its bytes."""
    if not info.key.endswith(".parquet"):
        return bytes_hold(store.get(info.key), ids)
    names = _text_columns(open_parquet(store, info.key, info.size_bytes).schema_arrow)
    for table in iter_columns(store, info.key, info.size_bytes, names) if names else ():
        if any(bytes_hold(str(row).encode(), ids) for row in table.to_pylist()):
            return True
    return False


def _text_columns(schema: pa.Schema) -> Sequence[str]:
    """Columns that are not plain numbers or bytes."""
    return [
        item.name
        for item in schema
        if not (pa.types.is_primitive(item.type) or pa.types.is_binary(item.type))
    ]


def shards_of(manifest: Manifest, holders: Holders) -> list[str]:
    """Shards of a manifest that hold a clip."""
    return [shard.path for shard in manifest.shards if shard.path in holders.shards]


def still_unfinished(store: Store, holders: Holders) -> list[str]:
    """Unfinished objects but those that a resumed removal has completed since."""
    keys = {info.key for room in ("catalog/", "frames/") for info in store.list(room)}
    found = []
    for key in holders.unfinished:
        folder, _, name = key.rpartition("/")
        stem = "catalog.json" if key.startswith("catalog/") else name.partition(".")[0] + ".parquet"
        if f"{folder}/{stem}" not in keys:
            found.append(key)
    return found
