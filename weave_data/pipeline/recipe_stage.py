"""Recipes: eligible clips -> groups -> plan -> shards -> manifest, all recipes in one execution."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig, RecipeConfig
from weave_data.embed import EmbedReceipt
from weave_data.errors import ConfigError
from weave_data.execute import Executor, Step
from weave_data.pipeline.audit import PairingAudit, audit_pairs
from weave_data.pipeline.caption_similarity import compare_captions
from weave_data.pipeline.caption_stage import embed_all_captions
from weave_data.pipeline.finished import PublishedRecipe
from weave_data.pipeline.frame_stage import StoredFrames, part_items
from weave_data.pipeline.grouping import GroupWork
from weave_data.pipeline.progress import OnProgress
from weave_data.pipeline.publication import make_manifest
from weave_data.pipeline.selecting import select_clips
from weave_data.pipeline.shard_cutter import ShardCutter
from weave_data.pipeline.weaving import Weaver, WovenRecipe
from weave_data.records import CLIP_SCHEMA
from weave_data.shard import (
    Manifest,
    ShardReceipt,
    ShardRequest,
    ShardSlice,
    make_fingerprint,
    manifest_sha256,
    publish,
    shard_path,
    shard_slices,
)
from weave_data.storage import Store, commit_exact
from weave_data.tables import table_bytes
from weave_data.tasks.shards import ShardItem, ShardOutcome, ShardWork
from weave_data.upkeep import retry_identity

__all__ = ["RecipeResult", "RecipeStage"]
_SHARDS_AT_ONCE = 1024  # their plan rows and addresses are in the driver's memory: about 1 MB each


@dataclass(frozen=True)
class RecipeResult:
    """A published recipe."""

    name: str
    manifest_sha256: str
    rows: int
    num_shards: int
    num_bytes: int
    is_new: bool
    files_written: int = 0
    files_reused: int = 0

    @classmethod
    def of_manifest(cls, manifest: Manifest, *, is_new: bool) -> RecipeResult:
        """Totals of a manifest."""
        return cls(
            name=manifest.recipe,
            manifest_sha256=manifest_sha256(manifest),
            rows=manifest.num_rows,
            num_shards=len(manifest.shards),
            num_bytes=manifest.num_bytes,
            is_new=is_new,
        )

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.name}: {self.rows} samples in {self.num_shards} shards, {self.num_bytes:,} bytes, "
            f"manifest sha256 {self.manifest_sha256}"
        )


@dataclass(frozen=True)
class _Planned:
    published: PublishedRecipe
    woven: WovenRecipe
    inputs: dict[str, object]
    fingerprint: str

    @property
    def recipe(self) -> RecipeConfig:
        return self.published.recipe


class RecipeStage:
    """Everything after the frame store, for the recipes that are not current."""

    def __init__(
        self, config: BuildConfig, store: Store, catalog: Catalog, frames: StoredFrames, scratch: Path
    ) -> None:
        self._config = config
        self._store = store
        self._catalog = catalog
        self._frames = frames
        self._scratch = scratch if config.execution.work_dir is not None else None
        self.audit = PairingAudit("not done", "nothing was woven")

    def run(
        self,
        published: Sequence[PublishedRecipe],
        executor: Executor,
        on_progress: OnProgress,
        *,
        replace: bool,
    ) -> list[RecipeResult]:
        """Weave, materialise and publish; a recipe that is current is only reported.

        Raises:
            ConflictError: Another build published the name with other settings meanwhile.
            CommitError: A shard is committed with other bytes.
        """
        weaver = self._weaver(executor, on_progress)
        planned = []
        for index, entry in enumerate(published):
            if not entry.is_current:
                captions = self._caption_vectors(entry, executor, on_progress)
                grouping = dataclasses.replace(weaver.grouping, captions=captions)
                planned.append(self._plan(entry, dataclasses.replace(weaver, grouping=grouping)))
            on_progress("weave", index + 1, len(published), "recipes")
        shards = self._write_shards(planned, executor, on_progress)
        self.audit = self._audit(executor)
        results = {entry.recipe.name: self._publish(entry, shards, replace=replace) for entry in planned}
        for entry in published:
            if entry.is_current and entry.manifest is not None:
                results[entry.recipe.name] = RecipeResult.of_manifest(entry.manifest, is_new=False)
        return [results[entry.recipe.name] for entry in published]

    def _weaver(self, executor: Executor, on_progress: OnProgress) -> Weaver:
        items = part_items(self._catalog, self._config.source.limit)
        tables = [self._catalog.read_part(self._store, item.part).slice(0, item.num_clips) for item in items]
        clips = pa.concat_tables([CLIP_SCHEMA.empty_table(), *tables])  # a source of texts alone has no clip
        stored = clips.filter(pc.is_in(clips["clip_id"], value_set=self._frames.addresses["clip_id"]))
        self.similarity = compare_captions(
            self._config, self._store, self._catalog, self._frames, executor, on_progress
        )
        self._selected = select_clips(
            stored,
            self.similarity.added_to(self._frames.quality),
            self._config.filters,
            groups=self._config.groups,
            vectors=self._frames.vectors,
            store=self._store,
        )
        return Weaver(
            catalog_ids=clips["clip_id"].combine_chunks(),
            selected=self._selected,
            frames=self._frames.addresses,
            store=self._store,
            grouping=GroupWork(
                self._store,
                images=self._frames.vectors,
                rules=self._config.groups,
                duplicates=self._selected.apart,
                embed_key=self._frames.embed_key,
            ),
            samples=self._samples,
            drops_leaks=self._config.filters.val_leaks == "drop",
        )

    def _caption_vectors(
        self, entry: PublishedRecipe, executor: Executor, on_progress: OnProgress
    ) -> tuple[EmbedReceipt, ...]:
        if "caption" not in entry.recipe.strategies:
            return ()
        captions = None if entry.texts.captions is None else entry.texts.captions.table
        return embed_all_captions(
            self._config, self._store, self._catalog, executor, on_progress, captions=captions
        )

    def _audit(self, executor: Executor) -> PairingAudit:
        config = self._config
        if not (config.needs_embeddings or config.needs_captions):
            return PairingAudit("not done", "no recipe uses the embedder")
        num_gpus = config.execution.gpus_per_actor if config.execution.gpus else 0.0
        return audit_pairs(
            config.embedding,
            self._store,
            self._selected.clips,
            self._frames.addresses,
            executor,
            num_gpus=num_gpus,
        )

    def _samples(self, recipe: RecipeConfig) -> pa.Table:
        if not self._catalog.has_samples:
            raise ConfigError(
                f"recipes.{recipe.name}.strategy: given needs ready-made samples; source.kind "
                f"{self._config.source.kind} gives clips: choose another strategy, or set questions"
            )
        return self._catalog.read_samples(self._store)

    def _plan(self, entry: PublishedRecipe, weaver: Weaver) -> _Planned:
        woven = weaver.weave(entry.recipe, entry.texts)
        inputs: dict[str, object] = {
            "catalog": self._catalog.key,
            "frames": self._frames.frames_key,
            **woven.inputs(),
            **self._selection_inputs(),
            **({"retries": retries} if (retries := retry_identity(self._store)) else {}),
        }
        return _Planned(entry, woven, inputs, make_fingerprint(entry.settings, inputs))

    def _selection_inputs(self) -> dict[str, object]:
        """Identities of the committed files that decide which clips there are, or may meet."""
        found: dict[str, object] = {}
        if self._config.filters.caption_similarity.is_bounded:
            found["caption_similarity"] = self.similarity.sha256
        if self._selected.files:
            found["duplicates"] = [list(named) for named in self._selected.files]
        return found

    def _write_shards(
        self, planned: Sequence[_Planned], executor: Executor, on_progress: OnProgress
    ) -> dict[str, list[ShardReceipt]]:
        num_shards = sum(len(_slices(entry)) for entry in planned)
        receipts: dict[str, list[ShardReceipt]] = {entry.recipe.name: [] for entry in planned}
        work = ShardWork(self._store, self._scratch)
        items = (item for entry in planned for item in self._items(entry))
        done = 0
        while batch := list(itertools.islice(items, _SHARDS_AT_ONCE)):
            outcomes: Iterable[ShardOutcome] = executor.run(Step("shards", batch, work))
            for outcome in outcomes:
                done += 1
                receipts[outcome.recipe].append(outcome.receipt)
                on_progress("shards", done, num_shards, "shards")
        for shards in receipts.values():
            shards.sort(
                key=lambda receipt: (receipt.entry.split != "train", receipt.entry.epoch, receipt.entry.path)
            )
        return receipts

    def _items(self, entry: _Planned) -> Iterator[ShardItem]:
        """Shards with their plan rows; one epoch's plan is in memory at a time."""
        recipe = entry.recipe
        for epoch in entry.woven.epochs:
            plan = epoch.read(self._store)
            cut = ShardCutter(plan, self._frames.addresses)
            for piece in shard_slices(epoch.num_rows, recipe.shard_rows):
                path = shard_path(recipe.name, entry.fingerprint, piece)
                request = ShardRequest(path, piece.split, piece.epoch, recipe.row_group_rows, recipe.pixels)
                yield cut.item(recipe.name, request, piece.start, piece.num_rows)

    def _publish(
        self, entry: _Planned, shards: dict[str, list[ShardReceipt]], *, replace: bool
    ) -> RecipeResult:
        receipts = shards[entry.recipe.name]
        rejects = pa.concat_tables(
            [
                self._catalog.read_rejects(self._store),
                self._frames.rejects,
                self._selected.rejects,
                entry.woven.rejects,
            ]
        )
        commit_exact(self._store, f"rejects/{entry.fingerprint}.parquet", table_bytes(rejects))
        manifest = make_manifest(
            entry.published,
            inputs=entry.inputs,
            totals=(
                self._catalog.count,
                self._frames.count,
                *self._selected.counts,
                *entry.woven.counts,
            ),
            shards=[receipt.entry for receipt in receipts],
            frames=self._frames,
            woven=entry.woven,
            audit=self.audit,
            similarity=self.similarity,
            store=self._store,
        )
        is_new = publish(self._store, manifest, replace=replace)
        result = RecipeResult.of_manifest(manifest, is_new=is_new)
        written = entry.woven.files_written + sum(not receipt.is_reused for receipt in receipts)
        reused = entry.woven.num_files + len(receipts) - written
        return dataclasses.replace(result, files_written=written, files_reused=reused)


def _slices(entry: _Planned) -> list[ShardSlice]:
    rows = entry.recipe.shard_rows
    return [piece for epoch in entry.woven.epochs for piece in shard_slices(epoch.num_rows, rows)]
