"""What a build would do, from the catalog alone; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weave_data.catalog import preview_catalog
from weave_data.config import BuildConfig
from weave_data.frame_policy import linspace_indices
from weave_data.pipeline.finished import PublishedRecipe
from weave_data.pipeline.frame_stage import frame_counts

__all__ = ["dry_run_lines", "frames_per_clip"]

TYPICAL_FRAMES = 300
BYTES_PER_FRAME_336PX = 23_000  # measured on real clips at quality 85


def frames_per_clip(config: BuildConfig, num_source_frames: int = TYPICAL_FRAMES) -> int:
    """Distinct frames stored of a clip of typical length, over all recipes and the embedding."""
    counts = list(frame_counts(config))
    if config.needs_embeddings:
        counts.append(config.embedding.frames_per_clip)
    return len({int(index) for count in counts for index in linspace_indices(num_source_frames, count)})


def dry_run_lines(config: BuildConfig, published: Sequence[PublishedRecipe]) -> Iterator[str]:
    """Lines for `--dry-run`: clips, stored frames, samples and rough bytes per recipe."""
    rows = preview_catalog(config.source)
    clips = rows if config.source.limit is None else min(rows, config.source.limit)
    stored = frames_per_clip(config)
    scale = (config.frames.short_side_px / 336) ** 2
    frame_bytes = int(BYTES_PER_FRAME_336PX * scale)
    yield f"dry run, nothing written: {rows} rows in the catalog, {clips} clips used"
    yield f"frames: about {stored} a clip, {clips * stored * frame_bytes / 1e9:.2f} GB (estimate)"
    for entry in published:
        recipe = entry.recipe
        if entry.is_current:
            yield f"{recipe.name}: there already with these settings"
            continue
        samples = clips // recipe.clips_per_sample
        size = samples * recipe.frames_per_sample * frame_bytes
        shards = -(-samples // recipe.shard_rows)
        yield f"{recipe.name}: at most {samples} samples in {shards} shards, {size / 1e9:.2f} GB (estimate)"
