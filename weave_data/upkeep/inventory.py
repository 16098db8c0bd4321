"""One listing of an output, sorted by stage: which parts and shards are there, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import BuildConfig
from weave_data.records import REJECT_SCHEMA
from weave_data.shard import list_recipes, read_manifest, shard_slices
from weave_data.storage import ObjectInfo, Store
from weave_data.tables import read_table_bytes
from weave_data.upkeep.columns import iter_columns
from weave_data.upkeep.retry import retry_rounds
from weave_data.upkeep.run_records import RunRecord

__all__ = ["Inventory", "decode_rejects", "planned_shards", "take_inventory"]

Times = dict[str, dict[str, float]]


@dataclass
class Inventory:
    """What one listing shows; times are seconds since 1970.

    Attributes:
        catalogs: Key of each complete catalog, and when it was.
        decoded: Frames key to part to when its latest complete layer was committed.
        rejects: Frames key to part to the objects that say which clips it refused.
        embedded: Embed key to part to when its vectors were committed.
        plans: Plans, as listed.
        shards: Recipe to directory (of a fingerprint) to the times of its shards.
    """

    catalogs: dict[str, float] = field(default_factory=dict)
    decoded: Times = field(default_factory=dict)
    rejects: dict[str, dict[str, list[ObjectInfo]]] = field(default_factory=dict)
    embedded: Times = field(default_factory=dict)
    plans: list[ObjectInfo] = field(default_factory=list)
    shards: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, info: ObjectInfo) -> None:
        """Sort one object in; what belongs to no stage is passed over."""
        levels, when = info.key.split("/"), info.modified or 0.0
        name = levels[-1]
        match levels[0]:
            case "catalog" if name == "catalog.json":
                self.catalogs[levels[1]] = when
            case "frames" if len(levels) == 5 and name.endswith(".parquet"):
                part = unquote(levels[3])
                if name.endswith(".rejects.parquet"):
                    self.rejects.setdefault(levels[1], {}).setdefault(part, []).append(info)
                elif name.count(".") == 1:
                    times = self.decoded.setdefault(levels[1], {})
                    times[part] = max(when, times.get(part, 0.0))
            case "embeddings" if len(levels) == 4:
                part = name.removesuffix(".parquet").rpartition("-")[0]
                self.embedded.setdefault(levels[1], {})[part] = when
            case "plans":
                self.plans.append(info)
            case recipe if len(levels) == 5 and name.startswith("shard-"):
                self.shards.setdefault(recipe, {}).setdefault(levels[1], []).append(when)

    def newest(self, room: str) -> str:
        """The key below `frames` or `embeddings` that was written last; empty when there is none."""
        times = self.decoded if room == "frames" else self.embedded
        return max(times, key=lambda key: max(times[key].values()), default="")

    def catalog_key(self, run: RunRecord | None) -> str:
        """Of the catalog a run reads: as it says itself, else the one that was made last."""
        said = run.progress.get("catalog", {}).get("key") if run else None
        return (
            said if said in self.catalogs else max(self.catalogs, key=self.catalogs.__getitem__, default="")
        )

    def newest_shards(self, recipe: str) -> list[float]:
        """Times of the shards in the directory of a recipe that was written last."""
        return max(self.shards.get(recipe, {}).values(), key=max, default=[])


def take_inventory(store: Store) -> Inventory:
    """List an output once."""
    found = Inventory()
    for info in store.list(""):
        found.add(info)
    return found


def planned_shards(store: Store, inventory: Inventory, config: BuildConfig | None) -> dict[str, int]:
    """Shards of each recipe: as its manifest lists them, or as its newest plan will be cut.

    A recipe whose shards were written after its manifest is being built anew: then the plan counts.
    """
    shard_rows = {recipe.name: recipe.shard_rows for recipe in config.recipes} if config else {}
    planned: dict[str, int] = {}
    epochs: dict[str, dict[tuple[str, int], int]] = {}
    for info in sorted(inventory.plans, key=lambda plan: plan.modified or 0.0):  # the newest of an epoch wins
        rows: dict[tuple[str, int], int] = {}
        name = ""
        for table in iter_columns(store, info.key, info.size_bytes, ["recipe", "split", "epoch"]):
            name = name or (table["recipe"][0].as_py() if table.num_rows else "")
            counts = table.group_by(["split", "epoch"]).aggregate([([], "count_all")])
            for row in counts.to_pylist():
                key = (row["split"], row["epoch"])
                rows[key] = rows.get(key, 0) + row["count_all"]
        epochs.setdefault(name, {}).update(rows)
    for name in epochs.keys() & shard_rows.keys():
        planned[name] = len(shard_slices(epochs[name], shard_rows[name]))
    for name in list_recipes(store):
        manifest = read_manifest(store, name)
        folders = inventory.shards.get(name, {})
        is_newest = all(
            max(folders[folder]) <= max(folders.get(manifest.fingerprint[:12], [np.inf]))
            for folder in folders
        )
        if is_newest or name not in planned:
            planned[name] = len(manifest.shards)
    return planned


def decode_rejects(store: Store, objects: Mapping[str, list[ObjectInfo]], parts: set[str]) -> pa.Table:
    """Clips that decoding refused, each once: `REJECT_SCHEMA`.

    A clip that was asked for again (`retries/`) and has frames by now is not refused any more.

    Args:
        store: The output.
        objects: Part to its objects of rejects, of one frame store.
        parts: Names of the parts that count.
    """
    tables = [REJECT_SCHEMA.empty_table()]
    rounds = retry_rounds(store)
    for part, infos in sorted(objects.items()):
        if part not in parts:
            continue
        table = pa.concat_tables(
            [read_table_bytes(store.get(info.key), schema=REJECT_SCHEMA) for info in infos]
        )
        retried = pc.is_in(table["clip_id"], value_set=pa.array(list(rounds), pa.string()))
        if pc.any(retried).as_py():
            stored = _stored_ids(store, infos[0].key.rpartition("/")[0])
            table = table.filter(pc.invert(pc.and_(retried, pc.is_in(table["clip_id"], value_set=stored))))
        tables.append(table)
    rejects = pa.concat_tables(tables)
    ids = rejects["clip_id"].to_numpy(zero_copy_only=False).astype(str)
    _, last = np.unique(ids[::-1], return_index=True)
    return rejects.take(pa.array(np.sort(len(ids) - 1 - last), pa.int64()))


def _stored_ids(store: Store, folder: str) -> pa.Array:
    """Clip ids that have frames in a part's layers."""
    found = [pa.array([], pa.string())]
    for info in store.list(f"{folder}/"):
        if info.key.endswith(".parquet") and info.key.rpartition("/")[2].count(".") == 1:
            for table in iter_columns(store, info.key, info.size_bytes, ["clip_id"]):
                found += table["clip_id"].chunks
    return pa.concat_arrays(found)
