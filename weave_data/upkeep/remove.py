"""`weave-data remove`: take clips down, so that no byte of an output holds them any more.

    1  removed/        what is taken down, as hashes: the next build leaves it out
    2  catalogs, layers, vectors, groups, plans   written anew without the clips
    3  shards          those that hold one written anew, rows with such a clip dropped; others stay
    4  manifests       replaced by compare-and-swap; settings as they were, `removed` among the inputs
    5  everything that still holds an id, and every manifest that was replaced: deleted, and below the output
       all older versions of a bucket that keeps them

Nothing is deleted before all of it is written. Stopped at any point, the same command goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from weave_data.catalog.removal import removal_identity
from weave_data.errors import ConfigError, VerificationError
from weave_data.records import StageCount
from weave_data.report import publish_card, publish_report
from weave_data.shard import Manifest, ShardEntry, list_recipes, publish, read_manifest
from weave_data.storage import LocalStore, S3Store, Store
from weave_data.upkeep.holders import Holders, find_holders, shards_of, still_unfinished
from weave_data.upkeep.holding import bytes_hold, values_without
from weave_data.upkeep.outputs import all_manifests, flat_values
from weave_data.upkeep.retry import rewrite_retries
from weave_data.upkeep.rewriting import MovedTar, Rewriter
from weave_data.upkeep.run_records import check_no_run
from weave_data.upkeep.tombstones import add_tombstone, removed_ids

__all__ = ["RecipeRemoval", "Removal", "find_removal", "remove_clips"]

STAGE = "remove"
_MADE_AGAIN = frozenset({"audits", "enrich", "runs"})  # logs, and results the next build finds out again


@dataclass(frozen=True)
class RecipeRemoval:
    """What a removal does to a recipe: samples dropped, shards written anew of all there are."""

    recipe: str
    samples: int
    beside: int
    shards: int
    all_shards: int

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"{self.recipe}: {self.samples:,} samples dropped, {self.beside:,} other clips with them; "
            f"{self.shards:,} of {self.all_shards:,} shards written anew"
        )


@dataclass(frozen=True)
class Removal:
    """What a removal does, or did."""

    num_clips: int
    recipes: tuple[RecipeRemoval, ...]
    objects: int
    num_bytes: int

    def lines(self) -> list[str]:
        """What the command line prints."""
        found = [recipe.line() for recipe in self.recipes]
        return [
            *found,
            f"{self.objects:,} objects ({self.num_bytes:,} bytes) hold one of {self.num_clips:,} clips",
        ]


def find_removal(store: Store, clip_ids: Sequence[str]) -> Removal:
    """Say what taking clips down would do; nothing is written.

    Raises:
        ConfigError: No ids are given.
    """
    ids = _ids(clip_ids)
    return _removal(store, ids, find_holders(store, ids))


def remove_clips(store: Store, clip_ids: Sequence[str], *, now: float) -> Removal:
    """Take clips down; the same call again resumes, or finds nothing left to do.

    Args:
        store: The output, writable.
        clip_ids: Which clips; ids that the output does not know are noted for the next build.
        now: Seconds since 1970.

    Raises:
        ConfigError: No ids are given.
        ConflictError: A build is running.
        VerificationError: Something that this package does not know still holds an id; it is named.
    """
    ids = _ids(clip_ids)
    check_no_run(store, now=now, verb="remove")
    add_tombstone(store, clip_ids)
    rewriter = Rewriter(store, ids, removed_ids(store))
    holders = find_holders(store, ids)
    removal = _removal(store, ids, holders)
    manifests = [read_manifest(store, name) for name in list_recipes(store)]
    renamed, moved = _rewrite_inputs(rewriter, holders, manifests)
    for manifest in manifests:
        _replace(rewriter, manifest, holders, renamed, moved)
    rewrite_retries(store, rewriter.names)
    _delete(store, ids, holders, renamed)
    if manifests:
        publish_card(store)
        publish_report(store)
    _check_gone(store, ids)
    if isinstance(store, S3Store):
        store.purge_versions()  # which would hold what was replaced and deleted
    return removal


def _ids(clip_ids: Sequence[str]) -> pa.Array:
    if not clip_ids:
        raise ConfigError("--clips: the file names no clip; write one clip id a line")
    return pa.array(sorted(set(clip_ids)), pa.string())


def _removal(store: Store, ids: pa.Array, holders: Holders) -> Removal:
    recipes = []
    for name in list_recipes(store):
        manifest = read_manifest(store, name)
        paths = shards_of(manifest, holders)
        held = [holders.shards[path] for path in paths]
        beside = sum(item.clips - item.removed for item in held)
        rows = sum(item.rows for item in held)
        recipes.append(RecipeRemoval(name, rows, beside, len(paths), len(manifest.shards)))
    lists = (holders.tables, holders.layers, holders.unfinished, holders.others, holders.shards)
    return Removal(len(ids), tuple(recipes), sum(len(found) for found in lists), holders.num_bytes)


def _rewrite_inputs(
    rewriter: Rewriter, holders: Holders, manifests: Sequence[Manifest]
) -> tuple[dict[str, str], dict[str, MovedTar]]:
    """Write what manifests are made from; old key or sum to new, old tar to where its frames lie."""
    named = {name for manifest in manifests for name in flat_values(manifest.inputs)}
    renamed = {key: rewriter.catalog(key) for key in holders.catalogs}
    for key in holders.tables:
        room = key.partition("/")[0]
        if room == "embeddings":
            rewriter.vectors(key)
        elif key in named:
            renamed |= rewriter.table(room, key)
    moved = {}
    for key in holders.layers:
        place = rewriter.layer(key)
        moved[key.removesuffix(".parquet") + ".tar"] = place or MovedTar("")
    return {old: new for old, new in renamed.items() if old != new}, moved


def _replace(
    rewriter: Rewriter,
    manifest: Manifest,
    holders: Holders,
    renamed: dict[str, str],
    moved: dict[str, MovedTar],
) -> None:
    """Write a recipe's shards anew where they must be, and publish the manifest that lists them."""
    inputs = values_without(manifest.inputs, rewriter.names, renamed)
    configuration = values_without(manifest.configuration, rewriter.names, {})
    touched = {*shards_of(manifest, holders), *_addressing(rewriter, manifest, moved)}
    if inputs == dict(manifest.inputs) and configuration == dict(manifest.configuration) and not touched:
        return
    earlier = list(manifest.inputs.get("removed", {}).get("of", []))
    inputs["removed"] = {
        "clips": removal_identity(rewriter.removed),
        "of": [*earlier, manifest.fingerprint],
    }
    draft = dataclasses.replace(
        manifest, configuration=configuration, inputs=inputs, fingerprint="", shards=()
    )
    shards: list[ShardEntry] = []
    for shard in manifest.shards:
        entry: ShardEntry | None = shard
        if shard.path in touched:
            entry = rewriter.shard(manifest, shard, draft.fingerprint, moved)
        if entry is not None:
            shards.append(entry)
    rewriter.rejects(manifest.fingerprint, draft.fingerprint)
    totals = (*manifest.totals, *_count(manifest, holders))
    publish(rewriter.store, dataclasses.replace(draft, shards=tuple(shards), totals=totals), replace=True)


def _addressing(rewriter: Rewriter, manifest: Manifest, moved: dict[str, MovedTar]) -> list[str]:
    """Reference shards that read from a tar that was written anew."""
    if manifest.pixels != "reference" or not moved:
        return []
    from weave_data.upkeep.reachable import addressed_tars

    return [shard.path for shard in manifest.shards if addressed_tars(rewriter.store, shard) & moved.keys()]


def _count(manifest: Manifest, holders: Holders) -> list[StageCount]:
    """Accounting of the removal, in clips of samples; stages before it tell what the build did."""
    held = [holders.shards[path] for path in shards_of(manifest, holders)]
    if not held:
        return []
    removed, clips = sum(item.removed for item in held), sum(item.clips for item in held)
    last = manifest.totals[-1].num_out if manifest.totals else clips
    reasons = {"removed": removed, "beside_removed": clips - removed}
    reasons = {reason: number for reason, number in reasons.items() if number}
    return [StageCount(STAGE, max(last, clips), max(last, clips) - clips, filtered=reasons)]


def _delete(store: Store, ids: pa.Array, holders: Holders, renamed: dict[str, str]) -> None:
    """Delete what held a clip, and manifests that were replaced, as they name what is gone."""
    manifests = dict(all_manifests(store, (info.key for info in store.list(""))))
    current = {m.fingerprint for key, m in manifests.items() if key.endswith("/manifest.json")}
    listed = {shard.path for m in manifests.values() if m.fingerprint in current for shard in m.shards}
    gone = [key for key, manifest in manifests.items() if manifest.fingerprint not in current]
    for old in holders.catalogs:
        if old in renamed:
            gone.append(f"catalog/{old}/catalog.json")
            gone += [info.key for info in store.list(f"catalog/{old}/")]
    for index_key in holders.layers:
        stem = index_key.removesuffix(".parquet")
        gone += [index_key, f"{stem}.rejects.parquet", f"{stem}.tar"]
    gone += [*holders.tables, *(key for key in holders.shards if key not in listed)]
    gone += still_unfinished(store, holders)
    gone += [key for key in holders.others if key.partition("/")[0] in _MADE_AGAIN]
    gone.append("report.html")  # pictures and captions; the next build draws it again
    for key in gone:
        store.delete(key)
    if isinstance(store, LocalStore):
        for path, _ in list(store.hidden_files()):
            if path.name.startswith(".tmp-") or bytes_hold(path.read_bytes(), ids):
                path.unlink(missing_ok=True)


def _check_gone(store: Store, ids: pa.Array) -> None:
    left = find_holders(store, ids)
    keys: list[Any] = [*left.tables, *left.layers, *left.shards, *left.others]
    if keys:
        raise VerificationError(
            f"{store.uri}: {len(keys)} objects that weave_data did not write still hold an id, the first is "
            f"{keys[0]}; delete or correct them, then run the same command again"
        )
