"""One part of the embed stage: vectors of its clips, committed once, the first writer wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.embed.embedders import Embedder
from weave_data.embed.text import TextEmbedder
from weave_data.records import content_key, embedding_schema
from weave_data.storage import Store, commit_first
from weave_data.tables import read_table_bytes, table_bytes

__all__ = [
    "EmbedReceipt",
    "EmbedRequest",
    "embed_key",
    "embed_part",
    "embedding_path",
    "read_vectors",
    "vector_table",
]

CLIPS_PER_CALL = 256
FLOAT_PACKAGES = ("numpy", "open_clip_torch", "pillow", "timm", "torch")


@dataclass(frozen=True)
class EmbedRequest:
    """The clips of one part that decoded, with the stored JPEGs of their embedding frames."""

    part: str
    key: str  # embed key, see `embed_key`
    clip_ids: Sequence[str]
    jpegs: Sequence[Sequence[bytes]]


@dataclass(frozen=True)
class EmbedReceipt:
    """What was committed for a part. `weights_sha256` is empty when an earlier run computed it."""

    part: str
    path: str
    sha256: str
    num_clips: int
    is_reused: bool
    weights_sha256: str = ""
    device: str = ""


def embed_key(identity: dict[str, Any], *, frames_key: str, policy: str) -> str:
    """Stage key of the vectors: embedder identity, frame store and frame policy."""
    return content_key("embed", embedder=identity, frames=frames_key, policy=policy)


def embedding_path(key: str, part: str, clips_sha256: str) -> str:
    """Place of a part's vectors below OUTPUT. `clips_sha256` tells which clips of the part are in it."""
    return f"embeddings/{key}/{clips_sha256[:2]}/{part}-{clips_sha256[:12]}.parquet"


def embed_part(request: EmbedRequest, *, path: str, embedder: Embedder, store: Store) -> EmbedReceipt:
    """Embed the clips of a part and commit their vectors; another run's vectors win if they came first.

    Returns:
        The receipt of what is stored, ours or theirs.
    """
    vectors = _embed(request.jpegs, embedder)
    data = table_bytes(vector_table(request.clip_ids, vectors, embedder))
    committed = commit_first(store, path, data)
    return EmbedReceipt(
        part=request.part,
        path=path,
        sha256=committed.sha256,
        num_clips=len(request.clip_ids),
        is_reused=not committed.is_ours,
        weights_sha256=embedder.weights_sha256,
        device=embedder.device,
    )


def _embed(jpegs: Sequence[Sequence[bytes]], embedder: Embedder) -> npt.NDArray[np.float32]:
    if not jpegs:
        return np.zeros((0, embedder.dim), dtype=np.float32)
    starts = range(0, len(jpegs), CLIPS_PER_CALL)
    return np.concatenate([embedder.embed(jpegs[start : start + CLIPS_PER_CALL]) for start in starts])


def vector_table(
    clip_ids: Sequence[str], vectors: npt.NDArray[np.float32], embedder: Embedder | TextEmbedder
) -> pa.Table:
    """Vectors as they are stored, with what made them as metadata."""
    flat = pa.array(vectors.astype(np.float16).ravel(), type=pa.float16())
    columns = [pa.array(clip_ids, pa.string()), pa.FixedSizeListArray.from_arrays(flat, embedder.dim)]
    metadata = {
        "embedder": embedder.name,
        "weights_sha256": embedder.weights_sha256,
        "device": embedder.device.split(":")[0],
        "packages": json.dumps({name: version(name) for name in FLOAT_PACKAGES}, sort_keys=True),
    }
    return pa.Table.from_arrays(columns, schema=embedding_schema(embedder.dim).with_metadata(metadata))


def read_vectors(data: bytes) -> tuple[list[str], npt.NDArray[np.float32], dict[str, str]]:
    """Clip ids, float32[n, dim] vectors, and metadata: embedder, weights_sha256, device, packages."""
    table = read_table_bytes(data)
    column = table.column("vector").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    dim = column.type.list_size
    values = np.asarray(column.flatten()).astype(np.float32).reshape(-1, dim)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return table.column("clip_id").to_pylist(), values, metadata
