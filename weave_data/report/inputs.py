"""Everything that a report is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weave_data.records import WovenSample
from weave_data.report.collage import Collage, make_collage
from weave_data.report.stored import StoredClips, read_rejects, read_stored_clips, stored_vectors
from weave_data.shard import Manifest, ShardEntry, list_recipes, num_row_groups, read_manifest, read_row_group
from weave_data.storage import Store

__all__ = ["MAX_RECIPES", "RefusedClip", "ReportInputs", "read_inputs"]

MAX_RECIPES = 24
"""Recipes shown with pictures; the others are in the tables only."""

_MAX_ROW_GROUPS = 8
_EXAMPLES_PER_REASON = 3
_MAX_COLLAGES = 4


@dataclass(frozen=True)
class RefusedClip:
    """A row of `rejects/`, with a stored frame where there is one."""

    stage: str
    recipe: str | None
    clip_id: str
    key: str
    reason: str
    detail: str
    caption: str
    frame: bytes | None


@dataclass(frozen=True)
class ReportInputs:
    """What `render_report` shows.

    Attributes:
        manifests: Published recipes, by name.
        samples: Woven samples by recipe, a seeded choice of row groups.
        collages: By recipe, where clips are grouped by what they look like.
        stored: Measurements, captions and frames of the parts that were read.
        refused: At most three clips by reason.
    """

    manifests: tuple[Manifest, ...]
    samples: Mapping[str, tuple[WovenSample, ...]]
    collages: Mapping[str, Collage]
    stored: StoredClips
    refused: Mapping[str, tuple[RefusedClip, ...]]


def read_inputs(store: Store, *, seed: int = 7) -> ReportInputs:
    """Read a report's inputs from an output alone; bounded, whatever the output's size.

    Args:
        store: The output.
        seed: Which samples, parts and refused clips are shown.

    Raises:
        VerificationError: A manifest, shard or catalog can't be read.
    """
    manifests = tuple(read_manifest(store, name) for name in list_recipes(store))
    samples: dict[str, tuple[WovenSample, ...]] = {}
    collages: dict[str, Collage] = {}
    for manifest in manifests[:MAX_RECIPES]:
        shown = tuple(_read_samples(store, manifest, seed))
        samples[manifest.recipe] = shown
        read = stored_vectors(store, manifest) if len(collages) < _MAX_COLLAGES else None
        collage = None if read is None else make_collage(shown, read, seed=seed)
        if collage is not None:
            collages[manifest.recipe] = collage
    stored = read_stored_clips(store, manifests, seed=seed)
    refused = _examples(read_rejects(store, manifests), stored, store, seed)
    return ReportInputs(manifests, samples, collages, stored, refused)


def _read_samples(store: Store, manifest: Manifest, seed: int) -> Iterator[WovenSample]:
    places: list[tuple[ShardEntry, int]] = [
        (shard, index)
        for shard in manifest.shards
        for index in range(num_row_groups(shard.rows, manifest.row_group_rows))
    ]
    # the first row group is as random as any other, and its samples are what `inspect` shows
    others = 1 + np.random.default_rng(seed).permutation(max(0, len(places) - 1))[: _MAX_ROW_GROUPS - 1]
    for place in [0, *np.sort(others).tolist()][: len(places)]:
        shard, index = places[place]
        for row in read_row_group(store, shard, index).to_pylist():
            yield WovenSample.from_row(row)


def _examples(
    rejects: pa.Table, stored: StoredClips, store: Store, seed: int
) -> dict[str, tuple[RefusedClip, ...]]:
    """Three rows of each reason, those with a picture first."""
    rng = np.random.default_rng(seed)
    reasons = rejects["reason"].to_numpy(zero_copy_only=False)
    found = {}
    for reason in sorted(set(reasons.tolist())):
        rows = rng.permutation(np.flatnonzero(reasons == reason))[:300]
        picked: Sequence[dict[str, str]] = rejects.take(pa.array(rows)).to_pylist()
        picked = sorted(picked, key=lambda row: row["clip_id"] not in stored.frames)[:_EXAMPLES_PER_REASON]
        found[reason] = tuple(_refused(row, stored, store) for row in picked)
    return found


def _refused(row: Mapping[str, str], stored: StoredClips, store: Store) -> RefusedClip:
    place = stored.frames.get(row["clip_id"])
    is_there = place is not None and store.head(place.tar) is not None
    frame = None
    if place is not None and is_there:
        frame = store.get_range(place.tar, place.offset, place.offset + place.size_bytes)
    values = {name: row[name] for name in ("stage", "recipe", "clip_id", "key", "reason", "detail")}
    return RefusedClip(**values, caption=stored.captions.get(row["clip_id"], ""), frame=frame)
