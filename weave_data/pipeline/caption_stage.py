"""Vectors of captions, per part on actors: what strategy `caption` and the pairing audit compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig, EmbeddingConfig
from weave_data.embed import (
    EmbedReceipt,
    caption_embed_key,
    caption_vectors_path,
    embed_captions,
    embedder_identity,
    load_text_embedder,
)
from weave_data.execute import ActorPool, Executor, Step
from weave_data.pipeline.frame_stage import part_items
from weave_data.pipeline.progress import OnProgress
from weave_data.storage import Store
from weave_data.tasks.frames import PartItem

__all__ = ["CaptionActor", "CaptionOutcome", "CaptionWork", "embed_all_captions"]


@dataclass(frozen=True)
class CaptionOutcome:
    """What a part's task reports. `pending` carries captions to the actor and never reaches the driver."""

    part: str
    path: str
    num_clips: int
    embedded: EmbedReceipt | None = None
    pending: pa.Table | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CaptionWork:
    """CPU side of a part: its captions, unless their vectors are there.

    `captions` (clip_id, caption), where given, takes the place of the catalog's; a clip it does not name
    keeps its own. `looks_only`: what is not there is not asked for either.
    """

    store: Store
    catalog: Catalog
    key: str
    captions: pa.Table | None = None
    looks_only: bool = False

    def __call__(self, item: PartItem) -> CaptionOutcome:
        """Read a part's captions, or find their vectors."""
        clips = self.catalog.read_part(self.store, item.part).slice(0, item.num_clips)
        texts = clips["caption"]
        if self.captions is not None:
            index = pc.index_in(clips["clip_id"], value_set=self.captions["clip_id"])
            texts = pc.coalesce(self.captions["caption"].take(index), texts)
        table = pa.table({"clip_id": clips["clip_id"], "caption": texts})
        path = caption_vectors_path(self.key, item.part.name, table)
        there = self.store.head(path)
        if there is not None and there.sha256 is not None:
            found = EmbedReceipt(item.part.name, path, there.sha256, len(table), is_reused=True)
            return CaptionOutcome(item.part.name, path, len(table), found)
        return CaptionOutcome(item.part.name, path, len(table), pending=None if self.looks_only else table)


@dataclass(frozen=True)
class CaptionActor:
    """Builds the model side in an actor's process; see `ActorPool.factory`."""

    config: EmbeddingConfig
    store: Store

    def __call__(self, device: str) -> Callable[[CaptionOutcome], CaptionOutcome]:
        """Load the text tower once, when a part needs it, and return the function over outcomes."""
        embedder: Any = None

        def finish(outcome: CaptionOutcome) -> CaptionOutcome:
            nonlocal embedder
            if outcome.pending is None:
                return outcome
            embedder = embedder or load_text_embedder(self.config, device)
            embedded = embed_captions(
                outcome.part, outcome.pending, path=outcome.path, embedder=embedder, store=self.store
            )
            return CaptionOutcome(outcome.part, outcome.path, outcome.num_clips, embedded)

        return finish


def embed_all_captions(
    config: BuildConfig,
    store: Store,
    catalog: Catalog,
    executor: Executor,
    on_progress: OnProgress,
    *,
    captions: pa.Table | None = None,
) -> tuple[EmbedReceipt, ...]:
    """Embed the captions of every part that the limit leaves; the receipts by part.

    Args:
        config: Its embedding, limit and execution.
        store: The output.
        catalog: Whose captions.
        executor: Where it runs.
        on_progress: Called as parts are done.
        captions: clip_id, caption that replace the catalog's.

    Returns:
        One receipt per part in catalog order. They hold every clip of the part, decoded or not.

    Raises:
        ConfigError: The configured embedder has no text tower.
        DeviceError: Its weights or tokenizer are not there.
    """
    items = part_items(catalog, config.source.limit)
    num_clips = sum(item.num_clips for item in items)
    key = caption_embed_key(embedder_identity(config.embedding))
    work = CaptionWork(store, catalog, key, captions)
    found: dict[str, EmbedReceipt] = {}
    done = 0

    def take(outcome: CaptionOutcome) -> None:
        nonlocal done
        if outcome.embedded is not None:
            found[outcome.part] = outcome.embedded
            done += outcome.num_clips
        on_progress("embed captions", done, num_clips, "clips")

    # actors take long to start: a build with other thresholds alone needs none
    if next(iter(store.list(f"embeddings/{key}/")), None) is not None:
        for outcome in executor.run(Step("find captions", items, dataclasses.replace(work, looks_only=True))):
            take(outcome)
    missing = [item for item in items if item.part.name not in found]
    if missing:
        for outcome in executor.run(Step("captions", missing, work, _actors(config, store, executor))):
            take(outcome)
    return tuple(found[item.part.name] for item in items)


def _actors(config: BuildConfig, store: Store, executor: Executor) -> ActorPool:
    execution = config.execution
    gpus = execution.gpus
    actors = max(1, int(gpus / execution.gpus_per_actor)) if gpus else executor.num_cores()
    return ActorPool(
        factory=CaptionActor(config.embedding, store),
        num_actors=actors,
        num_gpus_per_actor=execution.gpus_per_actor if gpus else 0.0,
    )
