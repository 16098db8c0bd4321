"""Groups of one epoch of a recipe: computed once, committed, then read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster import apart_labels, group_splits, mean_pair_cosine, random_pair_cosine
from weave_data.config import GroupsConfig, RecipeConfig
from weave_data.embed import EmbedReceipt
from weave_data.pipeline.frozen import FrozenCentroids, frozen_centroids
from weave_data.pipeline.vectors import read_clip_vectors
from weave_data.records import GROUP_SCHEMA, content_key
from weave_data.storage import Store, commit_first
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes
from weave_data.weave import split_portions

__all__ = ["EpochGroups", "GroupWork"]

_PACKAGES = ("faiss-cpu", "numpy")
_SCHEMA = GROUP_SCHEMA.append(
    pa.field("portion", pa.int16(), nullable=False)
)  # index of RecipeConfig.portions

GroupStrategy = Literal["single", "random", "clustered", "diverse"]

_ALGORITHMS: dict[str, GroupStrategy] = {
    "random": "random",
    "clustered": "clustered",
    "caption": "clustered",  # the vectors are the captions'
    "diverse": "diverse",
}

Vectors = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EpochGroups:
    """Committed groups: GROUP_SCHEMA and `portion`."""

    path: str
    sha256: str
    table: pa.Table
    is_new: bool

    @property
    def num_apart(self) -> int:
        """Clips that are left over because they must not share a sample."""
        return int(self.notes.get("num_apart", 0))

    @property
    def notes(self) -> dict[str, str]:
        """How alike the groups are and the versions that made them; empty without vectors."""
        return {key.decode(): value.decode() for key, value in (self.table.schema.metadata or {}).items()}


@dataclass(frozen=True)
class GroupWork:
    """Groups clips by a recipe's strategies.

    Attributes:
        store: The output.
        images: One receipt of vectors per part, of what the clips look like.
        captions: The same of what their captions say.
        rules: Which clips never share a sample, and by which centroids they are grouped.
        duplicates: Near duplicates to keep apart, where the rules ask for it.
        embed_key: Of what made `images`; frozen centroids belong to it.
    """

    store: Store
    images: Sequence[EmbedReceipt] = ()
    captions: Sequence[EmbedReceipt] = ()
    rules: GroupsConfig = field(default_factory=GroupsConfig)
    duplicates: pa.Table | None = None
    embed_key: str | None = None

    def group(self, recipe: RecipeConfig, clips: pa.Table, splits: pa.Array, *, epoch: int) -> EpochGroups:
        """The committed groups of an epoch, made now when they are not there.

        Args:
            recipe: Which strategies, how many clips, the seed.
            clips: CLIP_SCHEMA of the clips to group.
            splits: string[n], of each of them.
            epoch: Which one.
        """
        clip_ids = clips["clip_id"].combine_chunks()
        receipts = {name: self._receipts(name) for name in recipe.strategies}
        labels = self._labels(clips)
        key = content_key(
            "groups",
            version=3,
            rules=self.rules.model_dump(mode="json", exclude_defaults=True),
            labels=None if labels is None else sha256_hex(labels.tobytes()),
            portions=[[p.strategy, p.num_clips, p.weight] for p in recipe.portions],
            seed=recipe.seed,
            epoch=epoch,
            remainder=recipe.remainder,
            splits=recipe.split.model_dump(mode="json"),
            clips=sha256_hex("\n".join(clip_ids.to_pylist()).encode()),
            vectors={name: [item.sha256 for item in found] for name, found in receipts.items()},
        )
        path = f"groups/{key}.parquet"
        if (there := self.store.head(path)) is not None and there.sha256 is not None:
            table = read_table_bytes(self.store.get(path), schema=_SCHEMA)
            return EpochGroups(path, there.sha256, table, is_new=False)
        table = self._make(recipe, clip_ids, splits, labels, epoch)
        committed = commit_first(self.store, path, table_bytes(table))
        if not committed.is_ours:
            table = read_table_bytes(self.store.get(path), schema=_SCHEMA)
        return EpochGroups(path, committed.sha256, table, committed.is_ours)

    def _receipts(self, strategy: str) -> Sequence[EmbedReceipt]:
        match strategy:
            case "clustered" | "diverse":
                return self.images
            case "caption":
                return self.captions
            case _:
                return ()

    def _labels(self, clips: pa.Table) -> Labels | None:
        """int64[n], equal for clips that never share a sample; None when all may."""
        pages = clips["page"] if self.rules.same_page == "forbid" else None
        if pages is None and self.duplicates is None:
            return None
        return apart_labels(clips["clip_id"], duplicates=self.duplicates, pages=pages)

    def _make(
        self, recipe: RecipeConfig, clip_ids: pa.Array, splits: pa.Array, labels: Labels | None, epoch: int
    ) -> pa.Table:
        portions = split_portions(clip_ids, splits, recipe.portions, seed=recipe.seed, epoch=epoch)
        vectors = {name: self._read(self._receipts(name), clip_ids) for name in recipe.strategies}
        frozen = self._frozen(recipe, vectors.get("clustered"))
        tables, num_groups, num_apart = [], 0, 0
        for index, portion in enumerate(recipe.portions):
            rows = pa.array(np.flatnonzero(portions == index))
            chosen = rows.to_numpy()
            found = vectors[portion.strategy]
            strategy = "single" if portion.num_clips == 1 else _ALGORITHMS[portion.strategy]
            grouping = group_splits(
                clip_ids.take(rows),
                _rows_of(found, chosen) if strategy in ("clustered", "diverse") else None,
                splits=splits.take(rows),
                strategy=strategy,
                clips_per_group=portion.num_clips,
                seed=recipe.seed,
                epoch=epoch,
                remainder=recipe.remainder,
                labels=None if labels is None else labels[chosen],
                centroids=None if frozen is None or portion.strategy != "clustered" else frozen.centroids,
            )
            num_apart += grouping.num_apart
            table = grouping.table
            shifted = pc.add(table["group_index"], num_groups)
            num_groups += pc.count_distinct(table["group_index"]).as_py()
            table = table.set_column(0, GROUP_SCHEMA.field("group_index"), shifted)
            label = pa.array(np.full(table.num_rows, index, dtype=np.int16))
            tables.append(table.append_column(_SCHEMA.field("portion"), label))
        table = pa.concat_tables(tables).combine_chunks()
        notes = _notes(recipe, table, clip_ids, vectors) | {"num_apart": str(num_apart)}
        if frozen is not None:
            notes |= {"centroids": frozen.sha256, "drift": json.dumps(frozen.drift.to_json(), sort_keys=True)}
        return table.replace_schema_metadata(notes)

    def _frozen(self, recipe: RecipeConfig, vectors: Vectors | None) -> FrozenCentroids | None:
        if self.rules.centroids != "frozen" or vectors is None or self.embed_key is None:
            return None
        return frozen_centroids(vectors, embed_key=self.embed_key, seed=recipe.seed, store=self.store)

    def _read(self, receipts: Sequence[EmbedReceipt], clip_ids: pa.Array) -> Vectors | None:
        """float16[len(clip_ids), dim] in the order of `clip_ids`; None when there are no vectors."""
        return read_clip_vectors(receipts, clip_ids, self.store) if receipts else None


def _rows_of(vectors: Vectors | None, rows: npt.NDArray[np.int64]) -> Vectors | None:
    """The rows, without a copy when they are all there are."""
    return vectors if vectors is None or len(rows) == len(vectors) else vectors[rows]


def _notes(
    recipe: RecipeConfig, groups: pa.Table, clip_ids: pa.Array, vectors: dict[str, Vectors | None]
) -> dict[str, str]:
    """How alike clips that share a sample are, by the first strategy that has vectors."""
    for name, found in sorted(vectors.items()):
        if found is None:
            continue
        mine = [index for index, portion in enumerate(recipe.portions) if portion.strategy == name]
        chosen = groups.filter(pc.is_in(groups["portion"], value_set=pa.array(mine, pa.int16())))
        chosen = chosen.select(GROUP_SCHEMA.names)
        return {
            "strategy": name,
            "mean_pair_cosine": f"{mean_pair_cosine(chosen, clip_ids, found):.4f}",
            "random_pair_cosine": f"{random_pair_cosine(found):.4f}",
            "packages": json.dumps({name: version(name) for name in _PACKAGES}, sort_keys=True),
        }
    return {}
