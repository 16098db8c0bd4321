"""Layers of a part: their names, how one is committed, read back and merged.

    frames/<frames_key>/<2 hex>/<part>/<layer>.tar               the frames
    frames/<frames_key>/<2 hex>/<part>/<layer>.rejects.parquet   only when clips were rejected
    frames/<frames_key>/<2 hex>/<part>/<layer>.parquet           last: the layer is complete

A layer is immutable; a part's frames are the union of its layers. A stored frame or a reject counts
for a clip only while the clip is the same: its source key, place and size are kept with the layer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from weave_data.config import FramesConfig
from weave_data.decode.selection import in_storing_order, wanted_indices
from weave_data.frame_policy import FrameAsk
from weave_data.records import (
    FRAME_SCHEMA,
    QUALITY_SCHEMA,
    REJECT_SCHEMA,
    SCHEMA_VERSION,
    RejectReason,
    StageCount,
    canonical_json,
    content_key,
    rejects_table,
)
from weave_data.storage import Committed, Store, commit_exact
from weave_data.tables import read_table_bytes, table_bytes

__all__ = [
    "LAYER_SCHEMA",
    "Layer",
    "LayerRequest",
    "StoredClip",
    "StoredFrame",
    "commit_layer",
    "frame_tar_key",
    "frames_key",
    "read_layers",
    "source_id",
    "stored_clips",
]

_METADATA_KEY = b"weave_layer"
_INDEX, _REJECTS = ".parquet", ".rejects.parquet"
_VERSION = 2  # of what a layer holds and how its frames are ordered

LAYER_SCHEMA = FRAME_SCHEMA.append(
    pa.field("quality", pa.struct([field for field in QUALITY_SCHEMA if field.name != "clip_id"]))
)
"""FRAME_SCHEMA and what was measured; null where an earlier layer has it."""


def frames_key(config: FramesConfig) -> str:
    """Key of the frame store: only what changes a stored byte, never which frames are taken."""
    return content_key(
        "frames",
        short_side_px=config.short_side_px,
        format=config.format,
        quality=config.quality if config.format == "jpeg" else None,
        decoder=config.decoder,
        resample="bicubic",
        version=_VERSION,
    )


def frame_tar_key(frames_key: str, part: str, layer: str) -> str:
    """Key of a layer's tar, relative to the output."""
    return f"{_part_prefix(frames_key, part)}{layer}.tar"


def source_id(clip: Mapping[str, Any]) -> str:
    """What identifies a clip's bytes as far as the catalog knows, a row of CLIP_SCHEMA: 12 hex digits."""
    known = "\0".join(str(clip[name]) for name in ("size_bytes", "offset", "media", "key"))
    return hashlib.sha256(known.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class LayerRequest:
    """What a layer was made for.

    Attributes:
        asks: In storing order, the embedding's among them.
        sources: Each of its clips' `source_id`.
        rounds: How often a clip has been given another chance, where that is not 0.
    """

    asks: tuple[FrameAsk, ...]
    sources: Mapping[str, str]
    rounds: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        asks: Iterable[FrameAsk],
        embedding_frames: int | None,
        sources: Mapping[str, str],
        retries: Mapping[str, int],
    ) -> LayerRequest:
        """Canonical form: equal wishes are equal requests."""
        embedded = [] if embedding_frames is None else [FrameAsk("linspace", embedding_frames)]
        rounds = {clip_id: retries[clip_id] for clip_id in sources if retries.get(clip_id)}
        return cls(in_storing_order([*asks, *embedded]), sources, rounds)

    def only(self, clip_ids: Iterable[str]) -> LayerRequest:
        """The same for some of its clips."""
        sources = {clip_id: self.sources[clip_id] for clip_id in clip_ids}
        rounds = {clip_id: self.rounds[clip_id] for clip_id in sources if clip_id in self.rounds}
        return LayerRequest(self.asks, sources, rounds)

    def wanted(self, num_source_frames: int, source_seconds: float) -> list[int]:
        """Indices in stored order of a clip with n frames."""
        return wanted_indices(num_source_frames, source_seconds, self.asks)

    def covers(self, other: LayerRequest) -> bool:
        """True when every clip's frames of `other` are among the frames of this request."""
        return set(self.asks).issuperset(other.asks)

    def to_json(self) -> dict[str, Any]:
        """Plain dict for keys and metadata."""
        return {
            "asks": [ask.to_json() for ask in self.asks],
            "sources": dict(self.sources),
            "rounds": dict(self.rounds),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LayerRequest:
        """Inverse of `to_json`."""
        asks = tuple(FrameAsk.from_json(ask) for ask in values["asks"])
        return cls(asks, values["sources"], values["rounds"])


@dataclass(frozen=True)
class Layer:
    """A complete layer, or one about to be committed.

    Attributes:
        name: 12 hex digits of sha256 over the request and what was stored before it.
        request: What it was made for.
        index: Table of LAYER_SCHEMA; only the frames that this layer stores.
        rejects: Table of REJECT_SCHEMA.
        count: Accounting of this layer's clips.
        tar_sha256: Of the tar.
    """

    name: str
    request: LayerRequest
    index: pa.Table
    rejects: pa.Table
    count: StageCount
    tar_sha256: str

    @property
    def num_files(self) -> int:
        """Objects that make up the layer."""
        return 3 if self.rejects.num_rows else 2

    @staticmethod
    def name_for(request: LayerRequest, stored: Mapping[str, Iterable[int]], piece: int) -> str:
        """Name of a layer: the same request over the same stored frames has the same name."""
        before = {clip_id: sorted(indices) for clip_id, indices in stored.items()}
        values = {"request": request.to_json(), "stored": before, "piece": piece, "schema": SCHEMA_VERSION}
        return hashlib.sha256(canonical_json(values)).hexdigest()[:12]


def commit_layer(store: Store, key: str, part: str, layer: Layer, tar_path: Path) -> list[Committed]:
    """Commit tar, rejects, index, in this order; returns what lies there, ours or an earlier run's.

    Raises:
        CommitError: Another run committed other bytes under the same names.
        StoreError: The store refused or could not be reached.
    """
    prefix = f"{_part_prefix(key, part)}{layer.name}"
    description = {
        "layer": layer.name,
        "tar_sha256": layer.tar_sha256,
        "request": layer.request.to_json(),
        "num_rejects": layer.rejects.num_rows,
        "count": layer.count.to_json(),
    }
    index = layer.index.replace_schema_metadata({_METADATA_KEY: canonical_json(description)})
    written = [commit_exact(store, f"{prefix}.tar", tar_path, sha256=layer.tar_sha256)]
    if layer.rejects.num_rows:
        written.append(commit_exact(store, f"{prefix}{_REJECTS}", table_bytes(layer.rejects)))
    written.append(commit_exact(store, f"{prefix}{_INDEX}", table_bytes(index)))
    return written


def read_layers(store: Store, key: str, part: str) -> list[Layer]:
    """The complete layers of a part, by name."""
    prefix = _part_prefix(key, part)
    keys = [info.key for info in store.list(prefix)]
    indexes = sorted(key for key in keys if key.endswith(_INDEX) and not key.endswith(_REJECTS))
    return [_read_layer(store, key) for key in indexes]


def _read_layer(store: Store, index_key: str) -> Layer:
    index = read_table_bytes(store.get(index_key), schema=LAYER_SCHEMA)
    values = json.loads(index.schema.metadata[_METADATA_KEY])
    rejects = rejects_table([])
    if values["num_rejects"]:
        rejects = read_table_bytes(store.get(index_key.removesuffix(_INDEX) + _REJECTS), schema=REJECT_SCHEMA)
    return Layer(
        name=values["layer"],
        request=LayerRequest.from_json(values["request"]),
        index=index,
        rejects=rejects,
        count=StageCount.from_json(values["count"]),
        tar_sha256=values["tar_sha256"],
    )


@dataclass(frozen=True)
class StoredFrame:
    """Where one frame's bytes lie."""

    layer: str
    offset: int
    num_bytes: int
    seconds: float


@dataclass
class StoredClip:
    """What the layers hold of one clip: frames by index, or the reason it was rejected."""

    source_frames: int | None = None
    source_seconds: float = 0.0
    width: int = 0
    height: int = 0
    frames: dict[int, StoredFrame] = field(default_factory=dict)
    quality: dict[str, Any] | None = None
    reject: dict[str, Any] | None = None
    layers: set[str] = field(default_factory=set)


def stored_clips(layers: Iterable[Layer], request: LayerRequest) -> dict[str, StoredClip]:
    """Union of the layers for the clips of a request.

    A clip that was damaged only where another request looked is not rejected here: `corrupt` counts
    when this request needs all the frames that the layer's request needed. A reject of an earlier
    round than this request's does not count either.
    """
    clips: dict[str, StoredClip] = {}
    for layer in layers:
        same = {
            clip_id
            for clip_id, source in layer.request.sources.items()
            if request.sources.get(clip_id) == source
        }
        for row in layer.index.to_pylist():
            if row["clip_id"] in same:
                _add_frames(clips.setdefault(row["clip_id"], StoredClip()), row, layer.name)
        for row in layer.rejects.to_pylist():
            clip_id = row["clip_id"]
            is_ours = row["reason"] != RejectReason.CORRUPT.value or request.covers(layer.request)
            is_past = layer.request.rounds.get(clip_id, 0) < request.rounds.get(clip_id, 0)
            if clip_id in same and is_ours and not is_past:
                clip = clips.setdefault(clip_id, StoredClip())
                clip.reject = row
                clip.layers.add(layer.name)
    return clips


def _add_frames(clip: StoredClip, row: Mapping[str, Any], layer: str) -> None:
    clip.source_frames, clip.source_seconds = row["source_frames"], row["source_seconds"]
    clip.width, clip.height = row["width"], row["height"]
    clip.quality = clip.quality or row["quality"]
    clip.layers.add(layer)
    columns = (row["frame_index"], row["frame_offset"], row["frame_bytes"], row["frame_seconds"])
    for index, offset, num_bytes, seconds in zip(*columns, strict=True):
        clip.frames.setdefault(index, StoredFrame(layer, offset, num_bytes, seconds))


def _part_prefix(key: str, part: str) -> str:
    shard = hashlib.sha256(part.encode()).hexdigest()[:2]
    return f"frames/{key}/{shard}/{quote(part, safe='')}/"
