"""Recipes: eligible clips -> groups -> plan -> shards -> manifest, all recipes in one execution."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig, RecipeConfig
from weave_data.execute import Executor, Step
from weave_data.pipeline.finished import PublishedRecipe
from weave_data.pipeline.frame_stage import StoredFrames, part_items
from weave_data.pipeline.progress import OnProgress
from weave_data.pipeline.publication import make_manifest
from weave_data.pipeline.shard_work import ShardItem, ShardOutcome, ShardWork, shard_item
from weave_data.pipeline.weaving import WovenRecipe, weave_recipe
from weave_data.shard import (
    Manifest,
    ShardReceipt,
    ShardRequest,
    count_rows,
    make_fingerprint,
    manifest_sha256,
    publish,
    shard_path,
    shard_slices,
)
from weave_data.storage import Store, commit_exact
from weave_data.tables import table_bytes

__all__ = ["RecipeResult", "RecipeStage"]

FILES_BEFORE_SHARDS = 2  # groups and plan


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
        clips = self._clips()
        planned = []
        for index, entry in enumerate(published):
            if not entry.is_current:
                planned.append(self._plan(entry, clips))
            on_progress("weave", index + 1, len(published), "recipes")
        shards = self._write_shards(planned, executor, on_progress)
        results = {entry.recipe.name: self._publish(entry, shards, replace=replace) for entry in planned}
        for entry in published:
            if entry.is_current and entry.manifest is not None:
                results[entry.recipe.name] = RecipeResult.of_manifest(entry.manifest, is_new=False)
        return [results[entry.recipe.name] for entry in published]

    def _clips(self) -> pa.Table:
        items = part_items(self._catalog, self._config.source.limit)
        tables = [self._catalog.read_part(self._store, item.part).slice(0, item.num_clips) for item in items]
        return pa.concat_tables(tables)

    def _plan(self, entry: PublishedRecipe, clips: pa.Table) -> _Planned:
        woven = weave_recipe(entry.recipe, clips=clips, frames=self._frames, store=self._store)
        inputs: dict[str, object] = {
            "catalog": self._catalog.key,
            "frames": self._frames.frames_key,
            "groups": woven.groups_sha256,
            "plan": woven.plan_sha256,
        }
        return _Planned(entry, woven, inputs, make_fingerprint(entry.settings, inputs))

    def _write_shards(
        self, planned: Sequence[_Planned], executor: Executor, on_progress: OnProgress
    ) -> dict[str, list[ShardReceipt]]:
        items = [item for entry in planned for item in self._items(entry)]
        receipts: dict[str, list[ShardReceipt]] = {entry.recipe.name: [] for entry in planned}
        outcomes: Iterable[ShardOutcome] = executor.run(
            Step("shards", items, ShardWork(self._store, self._scratch))
        )
        for done, outcome in enumerate(outcomes, start=1):
            receipts[outcome.recipe].append(outcome.receipt)
            on_progress("shards", done, len(items), "shards")
        for shards in receipts.values():
            shards.sort(
                key=lambda receipt: (receipt.entry.split != "train", receipt.entry.epoch, receipt.entry.path)
            )
        return receipts

    def _items(self, entry: _Planned) -> Iterator[ShardItem]:
        recipe, plan = entry.recipe, entry.woven.plan
        for piece in shard_slices(count_rows(plan), recipe.shard_rows):
            path = shard_path(recipe.name, entry.fingerprint, piece)
            request = ShardRequest(path, piece.split, piece.epoch, recipe.row_group_rows)
            rows = plan.slice(piece.start, piece.num_rows)
            yield shard_item(recipe.name, request, rows, self._frames.addresses)

    def _publish(
        self, entry: _Planned, shards: dict[str, list[ShardReceipt]], *, replace: bool
    ) -> RecipeResult:
        receipts = shards[entry.recipe.name]
        rejects = pa.concat_tables(
            [self._catalog.read_rejects(self._store), self._frames.rejects, entry.woven.rejects]
        )
        commit_exact(self._store, f"rejects/{entry.fingerprint}.parquet", table_bytes(rejects))
        manifest = make_manifest(
            entry.published,
            inputs=entry.inputs,
            totals=(self._catalog.count, self._frames.count, entry.woven.count),
            shards=[receipt.entry for receipt in receipts],
            frames=self._frames,
            woven=entry.woven,
            store=self._store,
        )
        is_new = publish(self._store, manifest, replace=replace)
        result = RecipeResult.of_manifest(manifest, is_new=is_new)
        written = entry.woven.files_written + sum(not receipt.is_reused for receipt in receipts)
        reused = FILES_BEFORE_SHARDS + len(receipts) - written
        return dataclasses.replace(result, files_written=written, files_reused=reused)
