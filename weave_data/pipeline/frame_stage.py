"""Decode and embed over all parts: one Ray Data execution, receipts brought together on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig
from weave_data.decode import DecodeSettings, frames_key
from weave_data.embed import EmbedReceipt, embed_key, embedder_identity
from weave_data.execute import ActorPool, Executor, Step
from weave_data.pipeline.accounting import RejectBudget, check_balance
from weave_data.pipeline.progress import OnBusy, OnProgress, nobody_busy
from weave_data.pipeline.receipt_spool import ReceiptSpool
from weave_data.records import StageCount
from weave_data.storage import SourceRoot, Store
from weave_data.tasks.frames import EmbedActor, FrameWork, PartItem
from weave_data.upkeep import retry_rounds
from weave_data.weave import frame_asks

__all__ = ["FrameStage", "StoredFrames", "part_items"]


@dataclass(frozen=True)
class StoredFrames:
    """What the frame store and the vectors hold for this build.

    `addresses` has one row per decoded clip (`shard.ADDRESS_SCHEMA`, `frame_tar` dictionary-coded);
    `quality` likewise (`QUALITY_SCHEMA`); both are mapped from local disk. `vectors` has one receipt per
    part in part order, empty when no clips are compared.
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
        self._scratch = scratch
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
            embed_here=None if self._needs_actors else EmbedActor(config.embedding, store),
        )

    @property
    def _needs_actors(self) -> bool:
        """Thumbnails, without GPUs asked for, hold no model: the decode tasks make them."""
        return self._config.embedding.model != "none" or self._config.execution.gpus > 0

    def run(
        self, executor: Executor, budget: RejectBudget, on_progress: OnProgress, on_busy: OnBusy = nobody_busy
    ) -> StoredFrames:
        """Run the stage; receipts are ordered by part, whatever order they came in, and lie on local disk.

        Raises:
            RejectLimitError: As soon as too many clips are rejected.
            AccountingError: A part's counts don't balance.
        """
        items = part_items(self._catalog, self._config.source.limit)
        num_clips = sum(item.num_clips for item in items)
        order = {item.part.name: index for index, item in enumerate(items)}
        spool = ReceiptSpool(self._scratch / "receipts", self._frames_key)
        count = StageCount("decode", 0, 0)
        vectors: dict[int, EmbedReceipt] = {}
        written = reused = 0
        cores = executor.num_cores()
        actors = self._actors(cores)
        for outcome in executor.run(Step("decode", items, self._work, actors)):
            receipt = outcome.receipt
            check_balance(receipt.count, where=f"part {receipt.part}")
            budget.spend(receipt.count.rejected)
            on_busy("decode", outcome.decode_seconds, workers=cores)
            if actors is not None and outcome.embed_seconds:
                on_busy("embed", outcome.embed_seconds, workers=actors.num_actors)
            spool.add(order[receipt.part], receipt)
            count += receipt.count
            written += receipt.files_written
            reused += receipt.files_reused
            if outcome.embedded is not None:
                vectors[order[receipt.part]] = outcome.embedded
                written += not outcome.embedded.is_reused
                reused += outcome.embedded.is_reused
            on_progress("decode + embed" if self._embed_key else "decode", count.num_in, num_clips, "clips")
        spooled = spool.finish()
        return StoredFrames(
            frames_key=self._frames_key,
            embed_key=self._embed_key,
            addresses=spooled.addresses,
            rejects=spooled.rejects,
            quality=spooled.quality,
            count=count,
            vectors=tuple(vectors[position] for position in sorted(vectors)),
            open_clips=spooled.open_clips,
            files_written=written,
            files_reused=reused,
        )

    def _actors(self, cores: int) -> ActorPool | None:
        if self._embed_key is None or not self._needs_actors:
            return None
        execution = self._config.execution
        # on CPUs an actor runs on one thread: one for every core, beside the decode tasks
        actors = max(1, int(execution.gpus / execution.gpus_per_actor)) if execution.gpus else cores
        return ActorPool(
            factory=EmbedActor(self._config.embedding, self._store),
            num_actors=actors,
            num_gpus_per_actor=execution.gpus_per_actor if execution.gpus else 0.0,
        )
