"""The whole run: preflight, stages, publication."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from weave_data.catalog import build_catalog, catalog_key, is_committed
from weave_data.config import BuildConfig
from weave_data.embed import check_embedder
from weave_data.errors import IncompleteError, StoreError
from weave_data.execute import Executor, InProcessExecutor, RayExecutor, RayResources
from weave_data.pipeline.accounting import RejectBudget, check_balance
from weave_data.pipeline.estimate import dry_run_lines
from weave_data.pipeline.finished import PublishedRecipe, check_published, published_recipes
from weave_data.pipeline.frame_stage import FrameStage, StoredFrames
from weave_data.pipeline.progress import OnProgress, no_progress
from weave_data.pipeline.recipe_stage import RecipeResult, RecipeStage
from weave_data.pipeline.runs import RunLog
from weave_data.report import publish_card, publish_report
from weave_data.storage import SourceRoot, Store, open_source, open_store, scratch_folder
from weave_data.upkeep import catalog_round, removed_ids

__all__ = ["BuildOptions", "BuildResult", "RecipeResult", "build"]


@dataclass(frozen=True)
class BuildOptions:
    """How a build is run, as opposed to what it builds."""

    replace: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class BuildResult:
    """What a build did."""

    output: str
    recipes: tuple[RecipeResult, ...] = ()
    files_written: int = 0
    files_reused: int = 0
    notes: tuple[str, ...] = field(default=())

    def lines(self) -> Iterator[str]:
        """Lines for the terminal."""
        yield from self.notes
        for recipe in self.recipes:
            yield recipe.line()
        if self.recipes:
            yield f"{self.files_written} files written, {self.files_reused} reused; output {self.output}"
            yield f"next: weave-data verify {self.output}"


def build(
    config: BuildConfig,
    options: BuildOptions = BuildOptions(),
    *,
    executor: Executor | None = None,
    on_progress: OnProgress = no_progress,
) -> BuildResult:
    """Build what a configuration describes, or what is missing of it.

    Args:
        config: The configuration.
        options: Replace a published recipe; only say what would be done.
        executor: Where stages run; by default as `config.execution` says.
        on_progress: Called as items of a stage are done.

    Raises:
        SourceError: Source, store, credentials or device are not usable; nothing was done.
        ConflictError: A recipe is published with other settings.
        RejectLimitError: Too many clips were rejected.
        IncompleteError: Circumstances left parts open; the same command resumes.
        CommitError: An exact stage gave other bytes than are committed.
    """
    places = _open(config, write=not options.dry_run)
    store = places.store
    removed, listing_round = removed_ids(store), catalog_round(store)
    key = catalog_key(config.source, removed=removed, listing_round=listing_round)
    published = published_recipes(store, config, key)
    check_published(store, published, replace=options.replace)
    if all(recipe.is_current for recipe in published):
        notes = ("nothing to do: every recipe is there with these settings",)
        current = (recipe.manifest for recipe in published if recipe.manifest is not None)
        results = tuple(RecipeResult.of_manifest(manifest, is_new=False) for manifest in current)
        reused = sum(recipe.num_shards for recipe in results)
        return BuildResult(store.uri, results, 0, reused, notes)
    if config.needs_embeddings:
        check_embedder(config.embedding)
    if options.dry_run:
        return BuildResult(store.uri, notes=tuple(dry_run_lines(config, published)))
    with _running(config, executor) as runner:
        runner.prepare()
        log = RunLog.start(store, config)
        try:
            result = _run(config, options, places, published, runner, log, on_progress)
        except BaseException as error:
            # a store that just failed may refuse this note too; the build's own error is the one to see
            with suppress(StoreError):
                log.finish(type(error).__name__, {"message": str(error)})
            raise
        log.finish("done", {"files_written": result.files_written, "files_reused": result.files_reused})
    return result


@dataclass(frozen=True)
class _Places:
    store: Store
    source: SourceRoot


def _open(config: BuildConfig, *, write: bool) -> _Places:
    store = open_store(config.output)
    store.check(write=write)
    return _Places(store, open_source(config.source.videos))


@contextmanager
def _running(config: BuildConfig, executor: Executor | None) -> Iterator[Executor]:
    runner = executor or _executor(config)
    try:
        yield runner
    finally:
        runner.close()


def _executor(config: BuildConfig) -> Executor:
    execution = config.execution
    if execution.in_process:
        return InProcessExecutor()
    return RayExecutor(RayResources(execution.ray_address, execution.num_cpus, execution.gpus))


def _run(
    config: BuildConfig,
    options: BuildOptions,
    places: _Places,
    published: list[PublishedRecipe],
    executor: Executor,
    log: RunLog,
    on_progress: OnProgress,
) -> BuildResult:
    store, on_progress = places.store, log.observing(on_progress)
    was_there = is_committed(store, published[0].catalog_key)
    catalog = build_catalog(
        config.source, store, removed=removed_ids(store), listing_round=catalog_round(store)
    )
    log.note_catalog(catalog.key)
    check_balance(catalog.count, where="catalog")
    budget = RejectBudget(num_clips=catalog.count.num_in, max_fraction=config.rejects.max_fraction)
    budget.spend(catalog.count.rejected)
    limit = config.source.limit
    if limit is not None and limit < catalog.count.num_out:
        # a preview answers for its own clips: the catalog's millions would hide that all of them are broken
        budget = RejectBudget(num_clips=limit, max_fraction=config.rejects.max_fraction)
    with scratch_folder(config.execution.work_dir, prefix="weave-") as scratch:
        frame_stage = FrameStage(config, places.store, places.source, catalog, scratch)
        frames = frame_stage.run(executor, budget, on_progress, log.add_busy)
        _check_complete(frames)
        recipes = RecipeStage(config, store, catalog, frames, scratch)
        results = recipes.run(published, executor, on_progress, replace=options.replace)
    publish_card(store)
    publish_report(store)
    compared = recipes.similarity
    written = frames.files_written + compared.files_written + sum(result.files_written for result in results)
    reused = frames.files_reused + compared.files_reused + sum(result.files_reused for result in results)
    if was_there:
        reused += catalog.num_files
    else:
        written += catalog.num_files
    unused = f"{catalog.num_unused:,} conversations beyond the first of their records are not used"
    notes = (recipes.audit.line(), *([unused] if catalog.num_unused else []))
    return BuildResult(store.uri, tuple(results), written, reused, notes)


def _check_complete(frames: StoredFrames) -> None:
    if not frames.open_clips:
        return
    named = ", ".join(f"{clip_id} ({reason})" for clip_id, reason in frames.open_clips[:10])
    ids = json.dumps([clip_id for clip_id, _ in frames.open_clips])
    raise IncompleteError(
        f"{len(frames.open_clips)} clips could not be read or decoded for reasons that are not in their "
        f"bytes: {named}. Run the same command again; if they persist, give them up explicitly with "
        f"'rejects.quarantine={ids}'"
    )
