"""Decode and embed over all parts: one Ray Data execution, receipts brought together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig
from weave_data.decode import DecodeSettings, frames_key
from weave_data.embed import EmbedReceipt, embed_key, embedder_identity
from weave_data.execute import ActorPool, Executor, Step
from weave_data.pipeline.accounting import RejectBudget, check_balance, total
from weave_data.pipeline.frames import EmbedActor, FrameOutcome, FrameWork, PartItem
from weave_data.pipeline.progress import OnBusy, OnProgress, nobody_busy
from weave_data.records import QUALITY_SCHEMA, REJECT_SCHEMA, StageCount
from weave_data.storage import SourceRoot, Store
from weave_data.upkeep import retry_rounds
from weave_data.weave import frame_asks

__all__ = ["FrameStage", "StoredFrames", "frame_counts", "part_items"]


@dataclass(frozen=True)
class StoredFrames:
    """What the frame store and the vectors hold for this build.

    `addresses` has one row per decoded clip (`shard.ADDRESS_SCHEMA`); `quality` likewise
    (`QUALITY_SCHEMA`); `vectors` one receipt per part in part order, empty when no clips are compared.
    """

    frames_key: str
    embed_key: str | None
    addresses: pa.Table
    rejects: pa.Table
    quality: pa.Table
    count: StageCount
    vectors: tuple[EmbedReceipt, ...]
    open_clips: tuple[tuple[str, str], ...]
    files_written: int
    files_reused: int


def frame_counts(config: BuildConfig) -> tuple[int, ...]:
    """Distinct frames per clip that the recipes ask for, ascending."""
    return tuple(sorted({count for recipe in config.recipes for count in recipe.clip_frame_counts}))


def part_items(catalog: Catalog, limit: int | None) -> list[PartItem]:
    """The catalog's parts, or the first ones that hold `limit` clips."""
    items, left = [], sum(part.num_clips for part in catalog.parts) if limit is None else limit
    for part in catalog.parts:
        if left <= 0:
            break
        items.append(PartItem(part, min(part.num_clips, left)))
        left -= part.num_clips
    return items


class FrameStage:
    """Decode and embed every part that the limit leaves."""

    def __init__(
        self, config: BuildConfig, store: Store, source: SourceRoot, catalog: Catalog, scratch: Path
    ) -> None:
        self._config = config
        self._store = store
        self._catalog = catalog
        self._frames_key = frames_key(config.frames)
        self._embed_key = None
        if config.needs_embeddings:
            identity = embedder_identity(config.embedding)
            self._embed_key = embed_key(identity, frames_key=self._frames_key, policy="linspace")
        self._work = FrameWork(
            store=store,
            source=source,
            catalog=catalog,
            settings=DecodeSettings(
                frames=config.frames,
                clip_timeout_seconds=config.execution.clip_timeout_seconds,
                clip_memory_bytes=config.execution.clip_memory_bytes,
                work_dir=None if config.execution.work_dir is None else scratch,
            ),
            asks=frame_asks(config.recipes),
            quarantine=frozenset(config.rejects.quarantine),
            retries=retry_rounds(store),
            embed_key=self._embed_key,
            embedding_frames=config.embedding.frames_per_clip if config.needs_embeddings else None,
        )

    def run(
        self, executor: Executor, budget: RejectBudget, on_progress: OnProgress, on_busy: OnBusy = nobody_busy
    ) -> StoredFrames:
        """Run the stage; receipts are ordered by part, whatever order they came in.

        Raises:
            RejectLimitError: As soon as too many clips are rejected.
            AccountingError: A part's counts don't balance.
        """
        items = part_items(self._catalog, self._config.source.limit)
        num_clips = sum(item.num_clips for item in items)
        outcomes: list[FrameOutcome] = []
        done = 0
        actors, cores = self._actors(), self._config.execution.num_cpus or os.cpu_count() or 1
        for outcome in executor.run(Step("decode", items, self._work, actors)):
            check_balance(outcome.receipt.count, where=f"part {outcome.receipt.part}")
            budget.spend(outcome.receipt.count.rejected)
            on_busy("decode", outcome.decode_seconds, workers=cores)
            if actors is not None and outcome.embed_seconds:
                on_busy("embed", outcome.embed_seconds, workers=actors.num_actors)
            outcomes.append(outcome)
            done += outcome.receipt.count.num_in
            on_progress("decode + embed" if self._embed_key else "decode", done, num_clips, "clips")
        order = {item.part.name: index for index, item in enumerate(items)}
        outcomes.sort(key=lambda outcome: order[outcome.receipt.part])
        return self._collect(outcomes)

    def _actors(self) -> ActorPool | None:
        if self._embed_key is None:
            return None
        execution = self._config.execution
        # on CPUs an actor runs on one thread: one for every core, beside the decode tasks
        cores = execution.num_cpus or os.cpu_count() or 1
        actors = max(1, int(execution.gpus / execution.gpus_per_actor)) if execution.gpus else cores
        return ActorPool(
            factory=EmbedActor(self._config.embedding, self._store),
            num_actors=actors,
            num_gpus_per_actor=execution.gpus_per_actor if execution.gpus else 0.0,
        )

    def _collect(self, outcomes: Sequence[FrameOutcome]) -> StoredFrames:
        receipts = [outcome.receipt for outcome in outcomes]
        embedded = [outcome.embedded for outcome in outcomes if outcome.embedded is not None]
        reused = sum(receipt.files_reused for receipt in receipts) + sum(e.is_reused for e in embedded)
        written = sum(receipt.files_written for receipt in receipts) + sum(not e.is_reused for e in embedded)
        return StoredFrames(
            frames_key=self._frames_key,
            embed_key=self._embed_key,
            addresses=pa.concat_tables([receipt.addresses(self._frames_key) for receipt in receipts]),
            rejects=pa.concat_tables([REJECT_SCHEMA.empty_table(), *(r.rejects for r in receipts)]),
            quality=pa.concat_tables([QUALITY_SCHEMA.empty_table(), *(r.quality for r in receipts)]),
            count=total("decode", (receipt.count for receipt in receipts)),
            vectors=tuple(embedded),
            open_clips=tuple(clip for receipt in receipts for clip in receipt.open_clips),
            files_written=written,
            files_reused=reused,
        )
