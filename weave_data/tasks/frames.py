"""Decode and embed of one part, as an executor runs them.

The decode task fetches, decodes and commits the part's frames and hands the JPEGs of the embedding's
frames on; the actor commits vectors only. Whoever computes a file commits it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from weave_data.catalog import Catalog
from weave_data.config import EmbeddingConfig
from weave_data.decode import DecodeReceipt, DecodeRequest, DecodeSettings, decode_part
from weave_data.embed import EmbedReceipt, EmbedRequest, embed_part, embedding_path, load_embedder
from weave_data.frame_policy import FrameAsk
from weave_data.records import Part
from weave_data.storage import SourceRoot, Store
from weave_data.tables import sha256_hex

__all__ = ["EmbedActor", "FrameOutcome", "FrameWork", "PartItem"]


@dataclass(frozen=True)
class PartItem:
    """One part, or its first `num_clips` clips under a limit."""

    part: Part
    num_clips: int


@dataclass(frozen=True)
class FrameOutcome:
    """What a part's task reports. `pending` carries JPEGs to the actor and never reaches the driver."""

    receipt: DecodeReceipt
    embedded: EmbedReceipt | None = None
    pending: EmbedRequest | None = field(default=None, repr=False)
    embedding_path: str = ""
    decode_seconds: float = 0.0  # of a core, fetching and what else its task does included
    embed_seconds: float = 0.0  # of an actor


@dataclass(frozen=True)
class FrameWork:
    """CPU side of a part: picklable, everything it needs inside."""

    store: Store
    source: SourceRoot
    catalog: Catalog
    settings: DecodeSettings
    asks: tuple[FrameAsk, ...]
    quarantine: frozenset[str]
    retries: Mapping[str, int]
    embed_key: str | None
    embedding_frames: int | None
    embed_here: EmbedActor | None = None  # for an embedder without a model, which needs no actor

    def __call__(self, item: PartItem) -> FrameOutcome:
        """Decode a part (or find it decoded) and prepare its embedding, or embed it."""
        started = time.perf_counter()
        outcome = self._decode(item)
        if self.embed_here is not None:
            outcome = self.embed_here("cpu")(outcome)
        return replace(outcome, decode_seconds=time.perf_counter() - started)

    def _decode(self, item: PartItem) -> FrameOutcome:
        clips = self.catalog.read_part(self.store, item.part).slice(0, item.num_clips)
        request = DecodeRequest(
            part=item.part.name,
            clips=clips,
            asks=self.asks,
            embedding_frames=self.embedding_frames,
            quarantine=self.quarantine,
            retries=self._retries_of(clips),
        )
        receipt = decode_part(request, store=self.store, source=self.source, settings=self.settings)
        if self.embed_key is None or receipt.open_clips:
            return FrameOutcome(replace(receipt, embedding_jpegs=None))
        return self._with_embedding(receipt, item.part, self.embed_key)

    def _retries_of(self, clips: pa.Table) -> dict[str, int]:
        if not self.retries:
            return {}
        return {name: self.retries[name] for name in clips["clip_id"].to_pylist() if name in self.retries}

    def _with_embedding(self, receipt: DecodeReceipt, part: Part, key: str) -> FrameOutcome:
        clip_ids = tuple(receipt.index.column("clip_id").to_pylist())
        path = embedding_path(key, part.name, sha256_hex("\n".join(clip_ids).encode()))
        there = self.store.head(path)
        if there is not None and there.sha256 is not None:
            embedded = EmbedReceipt(part.name, path, there.sha256, len(clip_ids), is_reused=True)
            return FrameOutcome(replace(receipt, embedding_jpegs=None), embedded)
        jpegs = receipt.load_embedding_jpegs(self.store)
        pending = EmbedRequest(part.name, key, clip_ids, jpegs)
        return FrameOutcome(replace(receipt, embedding_jpegs=None), None, pending, path)


@dataclass(frozen=True)
class EmbedActor:
    """Builds the model side in an actor's process; see `ActorPool.factory`."""

    config: EmbeddingConfig
    store: Store

    def __call__(self, device: str) -> Callable[[FrameOutcome], FrameOutcome]:
        """Load the embedder once and return the function over outcomes."""
        embedder: Any = None

        def finish(outcome: FrameOutcome) -> FrameOutcome:
            nonlocal embedder
            if outcome.pending is None:
                return outcome
            started = time.perf_counter()
            # a resumed build whose vectors are all there never loads the model
            embedder = embedder or load_embedder(self.config, device=device)
            embedded = embed_part(
                outcome.pending, path=outcome.embedding_path, embedder=embedder, store=self.store
            )
            seconds = time.perf_counter() - started
            return FrameOutcome(
                outcome.receipt, embedded, decode_seconds=outcome.decode_seconds, embed_seconds=seconds
            )

        return finish
