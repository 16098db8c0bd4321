"""`--dry-run`: what a build would do, how much it stores and asks, and how long it takes. Nothing is written.

The catalog is made as the build makes it, on local scratch (or read, where it is committed); a few
clips are decoded for what one costs. Everything else is arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weave_data.catalog import Catalog, build_catalog, is_committed
from weave_data.config import BuildConfig, RecipeConfig
from weave_data.decode import frames_key
from weave_data.pipeline.finished import PublishedRecipe
from weave_data.pipeline.frame_stage import part_items
from weave_data.pipeline.probe import Interval, Probe, probe_clips
from weave_data.storage import LocalStore, Store, open_source, open_store, scratch_folder

__all__ = ["StageEstimate", "dry_run_lines", "estimate_build", "samples_at_most"]

_ROW_BYTES = 768  # of a sample beside its pixels: ids, texts, lists, its share of the footer
_ADDRESS_BYTES = 12  # of a frame in a reference shard, compressed
_VECTOR_BYTES = 2 * 512
_LIST_KEYS = 1000


@dataclass(frozen=True)
class StageEstimate:
    """One stage: `tasks` independent units, what it stores and what it asks of the store.

    `num_bytes` and `hours` are None where nothing is stored or nothing was measured.
    """

    stage: str
    tasks: int
    num_bytes: Interval | None = None
    puts: int = 0
    gets: int = 0
    hours: Interval | None = None
    note: str = ""

    def line(self) -> str:
        """One line for the terminal."""
        said = [f"{self.tasks:,} tasks", f"{self.puts:,} PUT, {self.gets:,} GET"]
        if self.num_bytes is not None:
            said.append(f"{_show(self.num_bytes, 1e9, 'GB')}")
        if self.hours is not None:
            said.append(_show(self.hours, 1.0, "h"))
        return f"{self.stage}: {self.note + '; ' if self.note else ''}{', '.join(said)}"


def _show(value: Interval, unit: float, name: str) -> str:
    low, mean, high = (f"{number / unit:.3g}" for number in (value.low, value.mean, value.high))
    return f"{mean} {name}" if low == high else f"{mean} {name} ({low} to {high})"


def dry_run_lines(config: BuildConfig, published: Sequence[PublishedRecipe]) -> Iterator[str]:
    """Lines for `--dry-run`: the probe, every stage, the sum.

    Raises:
        SourceError: Source or store are not usable.
    """
    store = open_store(config.output, readonly=True)
    with scratch_folder(config.execution.work_dir, prefix="weave-dry-") as scratch:
        is_there = is_committed(store, published[0].catalog_key)
        place: Store = store if is_there else LocalStore(scratch)
        catalog = build_catalog(config.source, place)
        probe = probe_clips(config, catalog, place, open_source(config.source.videos))
        files = 0 if is_there else sum(info.size_bytes for info in place.list("catalog/"))
    clips = sum(item.num_clips for item in part_items(catalog, config.source.limit))
    yield f"dry run, nothing written: {catalog.count.num_in:,} rows in the catalog, {clips:,} clips used"
    yield _probe_line(probe)
    stages = estimate_build(config, published, catalog, store, probe, catalog_bytes=files, is_there=is_there)
    yield from (stage.line() for stage in stages)
    stored = [stage.num_bytes for stage in stages if stage.num_bytes is not None]
    total = Interval(*(sum(getattr(size, name) for size in stored) for name in ("mean", "low", "high")))
    puts, gets = sum(stage.puts for stage in stages), sum(stage.gets for stage in stages)
    yield f"in all: {_show(total, 1e9, 'GB')} stored, {puts:,} PUT, {gets:,} GET"


def _probe_line(probe: Probe | None) -> str:
    if probe is None:
        return "probe: no clip could be decoded; look at the source before you build"
    refused = f", {len(probe.refused)} refused ({probe.refused[0][1]})" if probe.refused else ""
    seconds = _show(probe.seconds, 1.0, "s")
    return (
        f"probe: {probe.num_clips} clips decoded{refused}; a clip takes {seconds} of a core, "
        f"{probe.fetch_seconds:.2g} s to fetch and {_show(probe.stored_bytes, 1e3, 'kB')} to store"
    )


def estimate_build(
    config: BuildConfig,
    published: Sequence[PublishedRecipe],
    catalog: Catalog,
    store: Store,
    probe: Probe | None,
    *,
    catalog_bytes: int,
    is_there: bool,
) -> list[StageEstimate]:
    """Every stage of a build, from counts and what a probe measured.

    Args:
        config: The configuration.
        published: Its recipes; those that are current cost nothing.
        catalog: The catalog.
        store: The output; read only, for parts that have frames.
        probe: What a clip costs; None when nothing is known.
        catalog_bytes: Size of the catalog's files that are not there yet.
        is_there: The catalog is committed already.
    """
    items = part_items(catalog, config.source.limit)
    clips = sum(item.num_clips for item in items)
    cores = 1 if config.execution.in_process else (config.execution.num_cpus or os.cpu_count() or 1)
    with_frames = _parts_with_frames(store, frames_key(config.frames))
    number = 0 if is_there else catalog.num_files
    listed = 0 if is_there else -(-catalog.count.num_in // _LIST_KEYS)
    stages = [
        StageEstimate("catalog", 1, _exactly(catalog_bytes), number, listed),
        StageEstimate(
            "decode",
            len(items),
            probe.stored_bytes.times(clips) if probe else None,
            2 * len(items),
            clips,
            probe.seconds.times(clips / cores / 3600) if probe else None,
            f"{cores} cores" + (f", {with_frames} parts have frames already" if with_frames else ""),
        ),
    ]
    if config.needs_embeddings:
        size = _exactly(clips * _VECTOR_BYTES)
        note = "runs beside decoding, time not probed"
        stages.append(StageEstimate("embed", len(items), size, len(items), 0, None, note))
        if config.embedding.has_text_tower:
            note = "captions are embedded once; no part is compared twice"
            puts, gets = 2 * len(items), 3 * len(items)
            stages.append(StageEstimate("captions", len(items), size, puts, gets, None, note))
    for entry in published:
        if entry.is_current:
            stages.append(StageEstimate(entry.recipe.name, 0, note="there already with these settings"))
        else:
            stages.append(_recipe(entry.recipe, clips, catalog.num_samples, probe))
    return stages


def _recipe(recipe: RecipeConfig, clips: int, num_given: int, probe: Probe | None) -> StageEstimate:
    samples = samples_at_most(recipe, clips, num_given)
    shards = recipe.epochs * -(-samples // recipe.shard_rows)
    samples *= recipe.epochs
    frames = samples * recipe.frames_per_sample
    size = None
    if recipe.pixels == "reference":
        size = _exactly(samples * _ROW_BYTES + frames * _ADDRESS_BYTES)
    elif probe is not None:
        size = probe.frame_bytes.times(frames).plus(samples * _ROW_BYTES)
    gets = 0 if recipe.pixels == "reference" else samples * recipe.max_clips
    files = shards + 2 * recipe.epochs + 3  # groups and plan of each epoch; rejects, manifest twice
    note = f"at most {samples:,} samples in {shards:,} shards"
    return StageEstimate(recipe.name, shards, size, files, gets, None, note)


def samples_at_most(recipe: RecipeConfig, clips: int, num_given: int = 0) -> int:
    """Samples of one epoch if no clip is refused.

    Args:
        recipe: The recipe.
        clips: Clips of the catalog that are used.
        num_given: Samples that the source gives ready made.
    """
    if "given" in recipe.strategies:
        samples: float = num_given or clips
    else:
        weight = sum(portion.weight for portion in recipe.portions)
        mean_clips = sum(portion.num_clips * portion.weight for portion in recipe.portions) / weight
        samples = -(-clips // mean_clips) if recipe.remainder == "keep" else clips // mean_clips
    if recipe.match is not None and recipe.match.by == "samples":
        samples = min(samples, recipe.match.count)
    return int(samples)


def _exactly(num_bytes: int) -> Interval:
    return Interval(num_bytes, num_bytes, num_bytes)


def _parts_with_frames(store: Store, key: str) -> int:
    """Parts of the frame store with a complete layer."""
    names = (info.key for info in store.list(f"frames/{key}/"))
    found = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2].count(".") == 1}
    return len(found)
