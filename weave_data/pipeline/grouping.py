"""Groups of one epoch of a recipe: computed once, committed, then read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster import group_splits, mean_pair_cosine, random_pair_cosine
from weave_data.config import Portion, RecipeConfig
from weave_data.embed import EmbedReceipt
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


@dataclass(frozen=True)
class EpochGroups:
    """Committed groups: GROUP_SCHEMA and `portion`.

    `num_apart` is the number of clips that may be left over because they must not share a sample.
    """

    path: str
    sha256: str
    table: pa.Table
    is_new: bool
    num_apart: int = 0

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
    """

    store: Store
    images: Sequence[EmbedReceipt] = ()
    captions: Sequence[EmbedReceipt] = ()

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
        key = content_key(
            "groups",
            version=2,
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
        table = self._make(recipe, clip_ids, splits, epoch)
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

    def _make(self, recipe: RecipeConfig, clip_ids: pa.Array, splits: pa.Array, epoch: int) -> pa.Table:
        portions = split_portions(clip_ids, splits, recipe.portions, seed=recipe.seed, epoch=epoch)
        vectors = {name: self._read(self._receipts(name), clip_ids) for name in recipe.strategies}
        tables, num_groups = [], 0
        for index, portion in enumerate(recipe.portions):
            rows = pa.array(np.flatnonzero(portions == index))
            table = _group_portion(
                recipe,
                portion,
                clip_ids.take(rows),
                splits.take(rows),
                None if (found := vectors[portion.strategy]) is None else found[rows.to_numpy()],
                epoch,
            )
            shifted = pc.add(table["group_index"], num_groups)
            num_groups += pc.count_distinct(table["group_index"]).as_py()
            table = table.set_column(0, GROUP_SCHEMA.field("group_index"), shifted)
            label = pa.array(np.full(table.num_rows, index, dtype=np.int16))
            tables.append(table.append_column(_SCHEMA.field("portion"), label))
        table = pa.concat_tables(tables).combine_chunks()
        return table.replace_schema_metadata(_notes(recipe, table, clip_ids, vectors))

    def _read(self, receipts: Sequence[EmbedReceipt], clip_ids: pa.Array) -> Vectors | None:
        """float16[len(clip_ids), dim] in the order of `clip_ids`; None when there are no vectors."""
        return read_clip_vectors(receipts, clip_ids, self.store) if receipts else None


def _group_portion(
    recipe: RecipeConfig,
    portion: Portion,
    clip_ids: pa.Array,
    splits: pa.Array,
    vectors: Vectors | None,
    epoch: int,
) -> pa.Table:
    strategy: GroupStrategy = "single" if portion.num_clips == 1 else _ALGORITHMS[portion.strategy]
    return group_splits(
        clip_ids,
        vectors if strategy in ("clustered", "diverse") else None,
        splits=splits,
        strategy=strategy,
        clips_per_group=portion.num_clips,
        seed=recipe.seed,
        epoch=epoch,
        remainder=recipe.remainder,
    ).table


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
