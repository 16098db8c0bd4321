"""Verify a whole output: every promise of every manifest, every problem listed.

Reads every shard once, and every frame tar that a reference shard points into. What is wrong is an
error; what is merely left over (shards of a replaced or interrupted build) is a note.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import VerificationError
from weave_data.shard.manifest import Manifest, ShardEntry, make_fingerprint, manifest_sha256, parse_manifest
from weave_data.shard.publish import current_key, immutable_key, list_recipes
from weave_data.shard.slices import ShardSlice, shard_path
from weave_data.shard.verify_frames import FrameTars
from weave_data.shard.verify_shard import ShardFindings, check_shard
from weave_data.storage import Store

__all__ = ["RecipeReport", "VerifyReport", "verify_output"]

_MAX_THREADS = 8
_MAX_NAMED = 5


@dataclass(frozen=True)
class RecipeReport:
    """One recipe that holds what it promises."""

    recipe: str
    fingerprint: str
    manifest_sha256: str
    num_shards: int
    num_rows: int
    num_frames: int
    num_bytes: int


@dataclass(frozen=True)
class VerifyReport:
    """An output without problems. `notes` name what no manifest refers to."""

    recipes: tuple[RecipeReport, ...]
    notes: tuple[str, ...]
    is_decoded: bool

    def lines(self) -> list[str]:
        """What the command line prints."""
        pixels = "every frame decodes" if self.is_decoded else "frames not decoded (quick)"
        found = [
            f"{item.recipe}: ok, {item.num_rows:,} samples, {item.num_frames:,} frames, "
            f"{item.num_shards:,} shards, {item.num_bytes:,} bytes, {pixels}; "
            f"manifest sha256 {item.manifest_sha256}"
            for item in self.recipes
        ]
        return [*found, *(f"note: {note}" for note in self.notes)]


def verify_output(
    store: Store,
    *,
    recipes: Sequence[str] | None = None,
    quick: bool = False,
    num_threads: int | None = None,
) -> VerifyReport:
    """Check an output against its manifests.

    Args:
        store: The output.
        recipes: Which recipes; all published ones by default.
        quick: Don't decode the frames; every byte is still read and summed.
        num_threads: Shards checked at once; each takes its size in scratch space.

    Raises:
        VerificationError: Lists every problem, one a line; or nothing is published.
        StoreError: The store can't be reached.
    """
    names = list_recipes(store) if recipes is None else tuple(recipes)
    if not names:
        raise VerificationError(f"{store.uri}: no published recipe; is this an OUTPUT of weave-data build?")
    threads = num_threads or min(_MAX_THREADS, os.cpu_count() or 1)
    reports: list[RecipeReport] = []
    problems: list[str] = []
    notes: list[str] = []
    tars = FrameTars(store)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        for name in names:
            manifest, found = _check_manifest(store, name)
            problems += [f"{name}: {line}" for line in found]
            if manifest is None:
                continue
            report, found = _check_shards(store, manifest, tars, pool, decode=not quick)
            reports.append(report)
            problems += found
            notes += _strays(store, manifest)
        problems += [line for found in pool.map(tars.sum_problems, tars.seen()) for line in found]
    notes += tars.notes()
    if problems:
        raise VerificationError(
            "\n".join([f"{store.uri}: {len(problems)} problems", *(f"  {line}" for line in problems)])
        )
    return VerifyReport(tuple(reports), tuple(notes), is_decoded=not quick)


def _check_manifest(store: Store, recipe: str) -> tuple[Manifest | None, list[str]]:
    key = current_key(recipe)
    if store.head(key) is None:
        return None, [f"no {key}"]
    data = store.get(key)
    try:
        manifest = parse_manifest(data, name=key)
    except VerificationError as error:
        return None, [str(error)]
    return manifest, list(_manifest_problems(store, recipe, manifest, data))


def _manifest_problems(store: Store, recipe: str, manifest: Manifest, data: bytes) -> Iterator[str]:
    if manifest.recipe != recipe:
        yield f"the manifest is of recipe {manifest.recipe}"
    fixed = immutable_key(manifest.recipe, manifest.fingerprint)
    if store.head(fixed) is None:
        yield f"{fixed} is missing"
    elif store.get(fixed) != data:
        yield f"manifest.json and {fixed} differ"
    fingerprint = make_fingerprint(manifest.configuration, manifest.inputs)
    if fingerprint != manifest.fingerprint:
        yield f"settings and inputs give fingerprint {fingerprint}, the manifest says {manifest.fingerprint}"
    for count in manifest.totals:
        if not count.is_balanced:
            yield f"stage {count.stage}: {count.num_in} in, but what came out does not add up to it"
    yield from _layout_problems(manifest)


def _layout_problems(manifest: Manifest) -> Iterator[str]:
    """Names and sizes must be those that slicing the rows gives."""
    groups = dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards)
    ordered = [shard for key in groups for shard in manifest.select(split=key[0], epoch=key[1])]
    if ordered != list(manifest.shards):
        yield "shards of one split and epoch do not lie together"
    for split, epoch in groups:
        shards = manifest.select(split=split, epoch=epoch)
        if "removed" in manifest.inputs:
            yield from _shortened_problems(manifest, shards)
            continue
        for index, shard in enumerate(shards):
            piece = ShardSlice(split, epoch, index, 0, shard.rows)
            if shard.path != shard_path(manifest.recipe, manifest.fingerprint, piece):
                yield f"{shard.path} is listed as shard {index} of {split}, epoch {epoch}"
            is_full = shard.rows == manifest.shard_rows
            if not is_full and (index + 1 < len(shards) or not 0 < shard.rows < manifest.shard_rows):
                yield f"{shard.path}: {shard.rows} rows, a full shard has {manifest.shard_rows}"


def _shortened_problems(manifest: Manifest, shards: Sequence[ShardEntry]) -> Iterator[str]:
    """After a take-down: shards that held no removed clip lie where they were, the others may be shorter."""
    fingerprints = (*manifest.inputs["removed"]["of"], manifest.fingerprint)
    last = -1
    for shard in shards:
        index = int(shard.path.rpartition("shard-")[2].removesuffix(".parquet"))
        piece = ShardSlice(shard.split, shard.epoch, index, 0, shard.rows)
        places = {shard_path(manifest.recipe, fingerprint, piece) for fingerprint in fingerprints}
        if shard.path not in places or index <= last:
            yield f"{shard.path} is listed after shard {last} of {shard.split}, epoch {shard.epoch}"
        if not 0 < shard.rows <= manifest.shard_rows:
            yield f"{shard.path}: {shard.rows} rows, a shard has at most {manifest.shard_rows}"
        last = index


def _check_shards(
    store: Store, manifest: Manifest, tars: FrameTars, pool: ThreadPoolExecutor, *, decode: bool
) -> tuple[RecipeReport, list[str]]:
    findings = list(
        pool.map(lambda shard: check_shard(store, manifest, shard, tars, decode=decode), manifest.shards)
    )
    problems = [line for item in findings for line in item.problems]
    problems += _repeated_samples(manifest.recipe, findings)
    problems += _shared_clips(manifest, findings)
    report = RecipeReport(
        recipe=manifest.recipe,
        fingerprint=manifest.fingerprint,
        manifest_sha256=manifest_sha256(manifest),
        num_shards=len(manifest.shards),
        num_rows=manifest.num_rows,
        num_frames=sum(item.num_frames for item in findings),
        num_bytes=manifest.num_bytes,
    )
    return report, problems


def _repeated_samples(recipe: str, findings: Sequence[ShardFindings]) -> Iterator[str]:
    ids = pa.chunked_array([item.sample_ids for item in findings], pa.string())
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    yield f"{recipe}: {len(repeated)} sample ids occur more than once: {_named(repeated)}"


def _shared_clips(manifest: Manifest, findings: Sequence[ShardFindings]) -> Iterator[str]:
    splits: dict[str, list[pa.Array]] = {}
    for shard, item in zip(manifest.shards, findings, strict=True):
        splits.setdefault(shard.split, []).append(item.clip_ids)
    if not {"train", "val"} <= set(splits):
        return
    train, val = (pa.chunked_array(splits[name], pa.string()).unique() for name in ("train", "val"))
    shared = val.filter(pc.is_in(val, value_set=train))
    if len(shared):
        yield f"{manifest.recipe}: {len(shared)} clips are in both train and val: {_named(shared)}"


def _named(values: pa.Array) -> str:
    shown = ", ".join(values.slice(0, _MAX_NAMED).to_pylist())
    return shown + (", ..." if len(values) > _MAX_NAMED else "")


def _strays(store: Store, manifest: Manifest) -> Iterator[str]:
    listed = {shard.path for shard in manifest.shards}
    strays = [
        info
        for info in store.list(f"{manifest.recipe}/")
        if info.key.endswith(".parquet") and info.key not in listed
    ]
    if strays:
        size_bytes = sum(info.size_bytes for info in strays)
        yield (
            f"{manifest.recipe}: {len(strays)} shards ({size_bytes:,} bytes) of other builds lie beside it, "
            f"the first is {strays[0].key}"
        )
