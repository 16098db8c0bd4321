"""What a report shows of an output beyond its manifests: measurements, refused clips, vectors.

Bounded whatever the output's size: of a large catalog a seeded choice of its parts is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.committed import Catalog, read_catalog
from weave_data.decode import frame_tar_key
from weave_data.decode.layers import read_layers
from weave_data.embed import read_vectors
from weave_data.quality import SIMILARITY_SCHEMA
from weave_data.records import CLIP_SCHEMA, QUALITY_SCHEMA, REJECT_SCHEMA, Part
from weave_data.shard import Manifest
from weave_data.storage import Store
from weave_data.tables import read_table_bytes

__all__ = [
    "FramePlace",
    "Licences",
    "ReadVectors",
    "StoredClips",
    "read_licences",
    "read_num_unused",
    "read_rejects",
    "read_stored_clips",
    "stored_vectors",
]

MAX_PARTS = 64
_MAX_VECTOR_FILES = 128

ReadVectors = Callable[[Sequence[str]], npt.NDArray[np.float32] | None]
"""Clip ids -> float32[n, dim] of unit length in their order; None when one has no vector."""


@dataclass(frozen=True)
class FramePlace:
    """Where one stored frame lies."""

    tar: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Licences:
    """Number of clips by licence as the source gives it; of the whole catalog or of some parts."""

    counts: dict[str, int]
    is_whole: bool = True


@dataclass(frozen=True)
class StoredClips:
    """Clips of the parts that were read.

    Attributes:
        clips: CLIP_SCHEMA[n] of the decoded clips.
        quality: QUALITY_SCHEMA[n], in the same order, and `caption_similarity` where it was measured.
        frames: A frame of the middle of each decoded clip, by clip id.
        captions: Of every clip in those parts, by clip id.
        num_parts: How many parts were read.
        all_parts: How many the catalogs have.
        licences: Number of clips by licence as the source gives it.
    """

    clips: pa.Table
    quality: pa.Table
    frames: dict[str, FramePlace]
    captions: dict[str, str]
    num_parts: int
    all_parts: int
    licences: dict[str, int]


def read_stored_clips(store: Store, manifests: Sequence[Manifest], *, seed: int = 7) -> StoredClips:
    """Read a choice of the parts that some manifests were built from; what is gone is left out.

    Args:
        store: The output.
        manifests: Published recipes.
        seed: Which parts are chosen when there are more than 64.
    """
    places, all_parts = _choose_parts(store, manifests, seed)
    tables, measures = [CLIP_SCHEMA.empty_table()], [QUALITY_SCHEMA.empty_table()]
    frames: dict[str, FramePlace] = {}
    captions: dict[str, str] = {}
    licences: dict[str, int] = {}
    seen: set[str] = set()
    for catalog, frames_key, part in places:
        clips = catalog.read_part(store, part)
        if part.sha256 not in seen:
            seen.add(part.sha256)
            captions.update(zip(clips["clip_id"].to_pylist(), clips["caption"].to_pylist(), strict=True))
            _count_licences(clips, licences)
            told = _read_part(store, frames_key, part.name, frames)
            measures.append(told)
            tables.append(clips.take(pc.index_in(told["clip_id"], value_set=_array(clips["clip_id"]))))
    quality = _with_similarity(pa.concat_tables(measures), store, manifests, [part for _, _, part in places])
    return StoredClips(
        pa.concat_tables(tables), quality, frames, captions,
        len(places), all_parts, dict(sorted(licences.items())),
    )  # fmt: skip


def _with_similarity(
    quality: pa.Table, store: Store, manifests: Sequence[Manifest], parts: Sequence[Part]
) -> pa.Table:
    """`quality` with the cosines of the manifests' embedder; as it is when nothing was compared."""
    told = (manifest.float_stages.get("caption_similarity", {}) for manifest in manifests)
    keys = dict.fromkeys(values["key"] for values in told if "key" in values)
    tables = [SIMILARITY_SCHEMA.empty_table()]
    for key in keys:
        for part in parts:
            prefix = f"similarities/{key}/{part.name}-"
            names = [info.key for info in store.list(prefix)]
            ours = [name for name in names if "-" not in name.removeprefix(prefix)]  # not of part `<name>-2`
            tables += [read_table_bytes(store.get(name), schema=SIMILARITY_SCHEMA) for name in ours]
    if not keys:
        return quality
    found = pa.concat_tables(tables)
    rows = pc.index_in(quality["clip_id"], value_set=_array(found["clip_id"]))
    return quality.append_column("caption_similarity", found["caption_similarity"].take(rows))


def read_licences(store: Store, manifests: Sequence[Manifest], *, seed: int = 7) -> Licences:
    """Count licences over the parts that `read_stored_clips` reads."""
    places, all_parts = _choose_parts(store, manifests, seed)
    counts: dict[str, int] = {}
    parts = {part.sha256: (catalog, part) for catalog, _, part in places}
    for catalog, part in parts.values():
        _count_licences(catalog.read_part(store, part), counts)
    return Licences(dict(sorted(counts.items())), is_whole=len(places) == all_parts)


def read_num_unused(store: Store, manifests: Sequence[Manifest]) -> int:
    """Conversations of the sources' records beyond their first: no sample holds them."""
    keys = sorted({str(manifest.inputs.get("catalog", "")) for manifest in manifests} - {""})
    catalogs = [read_catalog(store, key) for key in keys]
    return sum(catalog.num_unused for catalog in catalogs if catalog is not None)


def _count_licences(clips: pa.Table, counts: dict[str, int]) -> None:
    for found in pc.value_counts(clips["licence"]).to_pylist():
        counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]


def _choose_parts(
    store: Store, manifests: Sequence[Manifest], seed: int
) -> tuple[list[tuple[Catalog, str, Part]], int]:
    """At most 64 parts, each with its catalog and frame store, and of how many."""
    pairs = sorted({(str(m.inputs.get("catalog", "")), str(m.inputs.get("frames", ""))) for m in manifests})
    places: list[tuple[Catalog, str, Part]] = []
    for catalog_key, frames_key in pairs:
        catalog = read_catalog(store, catalog_key) if catalog_key else None
        if catalog is not None:
            places += [(catalog, frames_key, part) for part in catalog.parts]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(places))[:MAX_PARTS])
    return [places[row] for row in chosen], len(places)


def _read_part(store: Store, frames_key: str, part: str, frames: dict[str, FramePlace]) -> pa.Table:
    """Measurements of a part's clips: QUALITY_SCHEMA; their frames go into `frames`."""
    measures = [QUALITY_SCHEMA.empty_table()]
    known: set[str] = set()
    for layer in read_layers(store, frames_key, part):
        tar = frame_tar_key(frames_key, part, layer.name)
        columns = ("clip_id", "frame_index", "frame_offset", "frame_bytes")
        for clip_id, *lists in zip(*(layer.index[name].to_pylist() for name in columns), strict=True):
            stored = sorted(zip(*lists, strict=True))
            if stored and clip_id not in frames:
                _, offset, size_bytes = stored[len(stored) // 2]
                frames[clip_id] = FramePlace(tar, offset, size_bytes)
        told = layer.index.filter(pc.is_valid(layer.index["quality"]))
        new = pc.invert(pc.is_in(told["clip_id"], value_set=pa.array(sorted(known), pa.string())))
        told = told.filter(new)
        known.update(told["clip_id"].to_pylist())
        values = {name: pc.struct_field(told["quality"], name) for name in QUALITY_SCHEMA.names[1:]}
        measures.append(pa.table({"clip_id": told["clip_id"], **values}).cast(QUALITY_SCHEMA))
    return pa.concat_tables(measures)


def read_rejects(store: Store, manifests: Sequence[Manifest]) -> pa.Table:
    """Refused clips of some recipes: REJECT_SCHEMA; what several recipes share is there once."""
    tables = [REJECT_SCHEMA.empty_table()]
    for manifest in manifests:
        key = f"rejects/{manifest.fingerprint}.parquet"
        if store.head(key) is not None:
            tables.append(read_table_bytes(store.get(key), schema=REJECT_SCHEMA))
    table = pa.concat_tables(tables)
    return table.group_by(REJECT_SCHEMA.names, use_threads=False).aggregate([]).select(REJECT_SCHEMA.names)


def stored_vectors(store: Store, manifest: Manifest) -> ReadVectors | None:
    """Reader of the committed vectors that a recipe was grouped by.

    Returns:
        None when the recipe has none, or when there are too many files to look through.
    """
    weights = manifest.weights_sha256.get("embedding")
    if weights is None:
        return None
    keys: dict[str, list[str]] = {}
    for number, info in enumerate(store.list("embeddings/")):
        if number >= _MAX_VECTOR_FILES:
            return None
        keys.setdefault(info.key.split("/")[1], []).append(info.key)

    def read(clip_ids: Sequence[str]) -> npt.NDArray[np.float32] | None:
        wanted = pa.array(clip_ids, pa.string())
        for _, files in sorted(keys.items()):
            found = _vectors_of(store, files, wanted, weights)
            if found is not None:
                return found
        return None

    return read


def _vectors_of(
    store: Store, files: Sequence[str], wanted: pa.Array, weights: str
) -> npt.NDArray[np.float32] | None:
    names: list[str] = []
    blocks: list[npt.NDArray[np.float32]] = []
    for key in files:
        ids, block, metadata = read_vectors(store.get(key))
        if metadata.get("weights_sha256") != weights:
            return None
        there = pc.is_in(pa.array(ids, pa.string()), value_set=wanted).to_numpy(zero_copy_only=False)
        names += [name for name, is_there in zip(ids, there, strict=True) if is_there]
        blocks.append(block[there].astype(np.float32))
    rows = pc.index_in(wanted, value_set=pa.array(names, pa.string()))
    if rows.null_count or not blocks:
        return None
    return np.concatenate(blocks)[rows.to_numpy().astype(np.int64)]


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
