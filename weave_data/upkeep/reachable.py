"""What the manifests of an output refer to, directly or through their inputs.

manifest -> its shards, its rejects
inputs   -> catalogs, frame stores (by key), groups, plans and whatever else (by key or sha256)
plan     -> the frames it shows -> the layers that hold one of them
settings -> the embedder -> vectors of the catalogs' parts; captions and questions by their sha256
audit    -> the stored one that says the same
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.embed import caption_embed_key, embed_key
from weave_data.frame_policy import linspace_table
from weave_data.keyed_hash import keyed_hashes
from weave_data.records import canonical_json
from weave_data.shard import Manifest, ShardEntry
from weave_data.storage import ObjectInfo, Store
from weave_data.upkeep.columns import iter_columns, open_parquet
from weave_data.upkeep.outputs import catalog_entries, flat_values, input_catalogs
from weave_data.upkeep.sample_keys import iter_samples

__all__ = ["Reachable", "addressed_tars", "find_reachable", "needed_layers"]

_FRAME_COLUMNS = ("clips.list.element.clip_id", "frame_clip", "frame_index")
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd: frames of one clip get distinct hashes


@dataclass(frozen=True)
class Reachable:
    """What must stay.

    Attributes:
        shards: Keys of shards.
        fingerprints: Of the manifests.
        names: Every string in their inputs: stage keys and sums.
        embed_keys: Stage keys of vectors that a recipe grouped by or was filtered by, captions' included.
        similarity_keys: Stage keys of cosines that a report shows.
        parts: Names of the parts of their catalogs.
        frames: uint64, ascending: hashes of (clip, frame index) that a plan shows.
        tars: Keys of tars that reference shards address.
        keeps_vectors: A recipe groups captions, whose vectors have keys that its inputs do not name:
            then no vectors are garbage.
        keeps_duplicates: A recipe of an earlier version does not name the near duplicates it was made with.
        audits: Canonical JSON of the manifests' audits.
        texts: First 16 digits of the sha256 of caption and question files: `enrich` names its results so.
        embedding_frames: m of the recipes that group by similarity.
    """

    shards: frozenset[str]
    fingerprints: frozenset[str]
    names: frozenset[str]
    embed_keys: frozenset[str]
    similarity_keys: frozenset[str]
    parts: frozenset[str]
    frames: npt.NDArray[np.uint64]
    tars: frozenset[str]
    embedding_frames: frozenset[int]
    keeps_vectors: bool
    keeps_duplicates: bool
    audits: frozenset[bytes]
    texts: frozenset[str]


def find_reachable(store: Store, manifests: Sequence[Manifest]) -> Reachable:
    """Read what some manifests refer to.

    Raises:
        VerificationError: A plan or catalog they name can't be read.
    """
    frames = [np.zeros(0, np.uint64)]
    tars: set[str] = set()
    for manifest in manifests:
        frames += [np.unique(_frame_hashes(table)) for table in iter_samples(store, manifest, _FRAME_COLUMNS)]
        if manifest.pixels == "reference":
            tars.update(tar for shard in manifest.shards for tar in addressed_tars(store, shard))
    catalogs = {key for manifest in manifests for key in input_catalogs(manifest)}
    embeddings = [m.configuration["embedding"] for m in manifests if "embedding" in m.configuration]
    return Reachable(
        shards=frozenset(shard.path for manifest in manifests for shard in manifest.shards),
        fingerprints=frozenset(manifest.fingerprint for manifest in manifests),
        names=frozenset(name for manifest in manifests for name in flat_values(manifest.inputs)),
        embed_keys=frozenset(key for manifest in manifests for key in _embed_keys(manifest)),
        similarity_keys=frozenset(
            m.float_stages["caption_similarity"].get("key", "")
            for m in manifests
            if "caption_similarity" in m.float_stages
        ),
        parts=frozenset(entry.part for key in catalogs for entry in catalog_entries(store, key)),
        frames=np.unique(np.concatenate(frames)),
        tars=frozenset(tars),
        embedding_frames=frozenset(int(given["frames_per_clip"]) for given in embeddings),
        keeps_vectors=any(_groups_captions(manifest) for manifest in manifests),
        keeps_duplicates=any(_has_unnamed_duplicates(manifest) for manifest in manifests),
        audits=frozenset(
            canonical_json(m.float_stages["audit"]) for m in manifests if "audit" in m.float_stages
        ),
        texts=frozenset(sha256[:16] for manifest in manifests for sha256 in _text_files(manifest)),
    )


def _embed_keys(manifest: Manifest) -> Iterator[str]:
    """Keys of the vectors of frames and captions that a recipe was made with, as its settings give them."""
    if "embedding" in manifest.configuration:
        identity = dict(manifest.configuration["embedding"])
        yield embed_key(identity, frames_key=manifest.inputs["frames"], policy="linspace")
        yield caption_embed_key(identity)


def _groups_captions(manifest: Manifest) -> bool:
    return "caption" in str(manifest.configuration.get("recipe", {}).get("strategy", ""))


def _has_unnamed_duplicates(manifest: Manifest) -> bool:
    settings = [manifest.configuration.get(name, {}) for name in ("filters", "groups")]
    return "duplicates" not in manifest.inputs and any(given.get("near_duplicates") for given in settings)


def _text_files(manifest: Manifest) -> Iterator[str]:
    """sha256 of the caption and question files a recipe was made with."""
    recipe = manifest.configuration.get("recipe", {})
    for name in ("captions", "questions"):
        yield (recipe.get(name) or {}).get("sha256", "")


def _frame_hashes(table: pa.Table) -> npt.NDArray[np.uint64]:
    """uint64, one a frame of some plan rows."""
    clips = _array(table["clips"])
    ids = clips.flatten().field("clip_id")
    lists = _array(table["frame_index"])
    counts = lists.value_lengths().to_numpy(zero_copy_only=False)
    first_clip = (clips.offsets.to_numpy() - clips.offsets[0].as_py())[:-1]
    owner = np.repeat(first_clip, counts) + _array(table["frame_clip"]).flatten().to_numpy()
    hashes = keyed_hashes(ids, key="frames")[owner]
    return _with_index(hashes, lists.flatten().to_numpy())


def _with_index(hashes: npt.NDArray[np.uint64], index: Any) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.asarray(hashes + (index.astype(np.uint64) + np.uint64(1)) * _STEP)


def _array(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column


def addressed_tars(store: Store, shard: ShardEntry) -> set[str]:
    """Tars that a reference shard reads its pixels from; an inline one needs none."""
    if "frame_tar" not in open_parquet(store, shard.path, shard.bytes).schema_arrow.names:
        return set()
    found: set[str] = set()
    for table in iter_columns(store, shard.path, shard.bytes, ["frame_tar"]):
        found.update(_array(table["frame_tar"]).flatten().unique().cast(pa.string()).to_pylist())
    return found


def needed_layers(store: Store, files: Sequence[ObjectInfo], reachable: Reachable) -> set[str]:
    """Which layers of one part's folder must stay: names without their endings.

    A layer stays when a published plan shows one of its frames, a reference shard reads its tar, a
    published recipe embedded its frames, or it says why clips of a published part were refused or how
    good they are: then nothing of the part would be decoded again. An unfinished layer never stays.

    Args:
        store: The output.
        files: The folder's objects.
        reachable: What the manifests refer to.
    """
    keys = {info.key for info in files}
    is_ours = unquote(files[0].key.split("/")[-2]) in reachable.parts
    stays = set()
    for info in files:
        name = info.key.removesuffix(".parquet")
        if name == info.key or "." in name.rpartition("/")[2]:
            continue  # a tar, rejects or measurements
        is_told = is_ours and f"{name}.rejects.parquet" in keys
        if f"{name}.tar" in reachable.tars or is_told or _shows(store, info, reachable, is_ours=is_ours):
            stays.add(name)
    return stays


def _shows(store: Store, info: ObjectInfo, reachable: Reachable, *, is_ours: bool) -> bool:
    """True when a layer holds a frame that a plan shows or an embedder looked at."""
    file = open_parquet(store, info.key, info.size_bytes)
    table = file.read(columns=["clip_id", "source_frames", "frame_index"], use_threads=False)
    if not table.num_rows:
        return False
    if is_ours and "quality" in file.schema_arrow.names:
        measured = file.read(columns=["quality"], use_threads=False)["quality"]
        if measured.null_count < len(measured):
            return True  # later layers don't measure again
    lists = _array(table["frame_index"])
    counts = lists.value_lengths().to_numpy(zero_copy_only=False)
    clips = keyed_hashes(table["clip_id"], key="frames")
    stored = _with_index(np.repeat(clips, counts), lists.flatten().to_numpy())
    for count in sorted(reachable.embedding_frames):
        indices = linspace_table(table["source_frames"].to_numpy(), count)
        if np.isin(stored, _with_index(np.repeat(clips, count), indices.ravel())).any():
            return True
    if not len(stored) or not len(reachable.frames):
        return False
    place = np.minimum(np.searchsorted(reachable.frames, stored), len(reachable.frames) - 1)
    return bool((reachable.frames[place] == stored).any())
