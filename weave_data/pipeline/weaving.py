"""One recipe before any pixel: eligible clips -> splits -> groups -> plan, each committed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster import group_splits, mean_pair_cosine, random_pair_cosine
from weave_data.config import RecipeConfig
from weave_data.embed import EmbedReceipt, read_vectors
from weave_data.errors import SourceError
from weave_data.pipeline.accounting import check_balance
from weave_data.pipeline.frame_stage import StoredFrames
from weave_data.records import GROUP_SCHEMA, StageCount, content_key
from weave_data.storage import Store, commit_exact, commit_first
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes
from weave_data.weave import count_woven, eligible_clips, make_plan

__all__ = ["WovenRecipe", "weave_recipe"]

GROUP_PACKAGES = ("faiss-cpu", "numpy")


@dataclass(frozen=True)
class WovenRecipe:
    """A recipe's committed plan; `groups` as stored."""

    plan: pa.Table
    plan_sha256: str
    groups: pa.Table
    groups_sha256: str
    rejects: pa.Table
    count: StageCount
    files_written: int


def weave_recipe(recipe: RecipeConfig, *, clips: pa.Table, frames: StoredFrames, store: Store) -> WovenRecipe:
    """Group and plan one recipe, or read what is committed.

    Args:
        recipe: The recipe.
        clips: `CLIP_SCHEMA` of the whole catalog (or the limit's prefix).
        frames: What is stored; clips without stored frames were rejected before.
        store: The output.

    Raises:
        SourceError: No clip is left to weave.
    """
    decoded = clips.filter(pc.is_in(clips["clip_id"], value_set=_array(frames.addresses["clip_id"])))
    eligible, rejects = eligible_clips(decoded, frames.addresses, recipe=recipe)
    if eligible.num_rows == 0:
        raise SourceError(
            f"recipes.{recipe.name}: none of {decoded.num_rows} decoded clips has the "
            f"{recipe.frames_per_clip} frames it needs; lower frames_per_sample or see rejects/"
        )
    groups, groups_sha256, is_new = _groups(recipe, eligible, frames, store)
    planned = make_plan(recipe, clips=eligible, frames=frames.addresses, groups=groups)
    count = count_woven(recipe, num_clips=decoded.num_rows, rejects=rejects, groups=groups)
    check_balance(count, where=f"recipe {recipe.name}")
    data = table_bytes(planned)
    plan_sha256 = sha256_hex(data)
    key = content_key("plan", recipe=recipe.model_dump(mode="json"), groups=groups_sha256, sha256=plan_sha256)
    committed = commit_exact(store, f"plans/{key}.parquet", data)
    written = int(is_new) + int(committed.is_ours)
    return WovenRecipe(planned, plan_sha256, groups, groups_sha256, rejects, count, written)


def _groups(
    recipe: RecipeConfig, eligible: pa.Table, frames: StoredFrames, store: Store
) -> tuple[pa.Table, str, bool]:
    """The committed groups, their sum, and whether this run made them."""
    clip_ids = _array(eligible["clip_id"])
    vectors = frames.vectors if recipe.strategy == "clustered" else ()
    key = content_key(
        "groups",
        strategy=recipe.strategy,
        clips_per_sample=recipe.clips_per_sample,
        seed=recipe.seed,
        remainder=recipe.remainder,
        val_fraction=recipe.split.val_fraction,
        clips=sha256_hex("\n".join(clip_ids.to_pylist()).encode()),
        vectors=[receipt.sha256 for receipt in vectors],
    )
    path = f"groups/{key}.parquet"
    if (there := store.head(path)) is not None and there.sha256 is not None:
        return read_table_bytes(store.get(path), schema=GROUP_SCHEMA), there.sha256, False
    table = _make_groups(recipe, clip_ids, _read_vectors(vectors, clip_ids, store))
    committed = commit_first(store, path, table_bytes(table))
    if not committed.is_ours:
        table = read_table_bytes(store.get(path), schema=GROUP_SCHEMA)
    return table, committed.sha256, committed.is_ours


def _make_groups(
    recipe: RecipeConfig, clip_ids: pa.Array, vectors: npt.NDArray[np.float32] | None
) -> pa.Table:
    """Groups of both splits; how alike they are, and the versions that made them, as metadata."""
    groups = group_splits(
        clip_ids,
        vectors,
        strategy=recipe.strategy,
        clips_per_group=recipe.clips_per_sample,
        seed=recipe.seed,
        remainder=recipe.remainder,
        val_fraction=recipe.split.val_fraction,
    ).table
    if vectors is None:
        return groups
    notes = {
        "mean_pair_cosine": f"{mean_pair_cosine(groups, clip_ids, vectors):.4f}",
        "random_pair_cosine": f"{random_pair_cosine(vectors):.4f}",
        "packages": json.dumps({name: version(name) for name in GROUP_PACKAGES}, sort_keys=True),
    }
    return groups.replace_schema_metadata(notes)


def _read_vectors(
    receipts: Sequence[EmbedReceipt], clip_ids: pa.Array, store: Store
) -> npt.NDArray[np.float32] | None:
    """float32[len(clip_ids), dim] in the order of `clip_ids`; None when there are no vectors."""
    if not receipts:
        return None
    names: list[str] = []
    blocks: list[npt.NDArray[np.float32]] = []
    for receipt in receipts:
        ids, block, _ = read_vectors(store.get(receipt.path))
        names += ids
        blocks.append(block)
    rows = pc.index_in(clip_ids, value_set=pa.array(names, pa.string())).to_numpy(zero_copy_only=False)
    return np.concatenate(blocks)[rows.astype(np.int64)]


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
