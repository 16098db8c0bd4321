"""`weave-data gc`: what no manifest refers to, largest first; deleted only on request, never when young.

A key is garbage only if this module knows its kind: files of any other name are left alone.
Manifests that another build replaced still count, unless `superseded` gives them up as well.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from weave_data.errors import VerificationError
from weave_data.records import canonical_json
from weave_data.shard import list_recipes
from weave_data.storage import LocalStore, ObjectInfo, Store
from weave_data.upkeep.outputs import all_manifests
from weave_data.upkeep.reachable import Reachable, find_reachable, needed_layers
from weave_data.upkeep.run_records import check_no_run

__all__ = ["Garbage", "GcReport", "collect_garbage", "delete_garbage"]

_SHARD = re.compile(r"[^/]+/[0-9a-f]{12}/[^/]+/epoch=\d+/shard-\d+\.parquet")
_AUDIT = re.compile(r"audits/[0-9a-f]{32}\.json")
_ENRICHED = re.compile(r"enrich/[0-9a-f]{32}/[a-z-]+-([0-9a-f]{16})\.parquet")
_ANSWERS = re.compile(r"enrich/[0-9a-f]{32}/[0-9a-f]{2}/[0-9a-f]+\.parquet")
_PROBE = re.compile(r"runs/probe-[0-9a-f]{32}")
_CHECK_EVERY = 1000  # objects deleted between two looks at whether a build began


@dataclass(frozen=True)
class Garbage:
    """One object that nothing refers to."""

    key: str
    size_bytes: int
    kind: str


@dataclass(frozen=True)
class GcReport:
    """What a collection found.

    Attributes:
        garbage: Old enough to delete, in an order in which a half-done deletion leaves nothing that
            looks complete.
        young: Objects that nothing refers to, but younger than the limit: left alone.
        young_bytes: Their size.
        hidden: Unfinished files of killed writers on local disk, old enough.
        kept_bytes: Of everything that stays.
    """

    garbage: tuple[Garbage, ...]
    young: int
    young_bytes: int
    kept_bytes: int
    hidden: tuple[Path, ...] = field(default=())

    @property
    def num_bytes(self) -> int:
        """Bytes that deleting would free."""
        return sum(item.size_bytes for item in self.garbage) + sum(
            path.stat().st_size for path in self.hidden
        )

    def by_kind(self) -> list[tuple[str, int, int]]:
        """(kind, objects, bytes), the most bytes first."""
        sums: dict[str, tuple[int, int]] = {}
        for item in self.garbage:
            count, size = sums.get(item.kind, (0, 0))
            sums[item.kind] = (count + 1, size + item.size_bytes)
        if self.hidden:
            sums["unfinished files"] = (len(self.hidden), sum(path.stat().st_size for path in self.hidden))
        return sorted(((kind, *values) for kind, values in sums.items()), key=lambda row: -row[2])


def collect_garbage(
    store: Store, *, now: float, min_age_seconds: float = 86_400, superseded: bool = False
) -> GcReport:
    """Find what no manifest refers to; nothing is deleted.

    Args:
        store: The output.
        now: Seconds since 1970.
        min_age_seconds: What was written later than this ago is left alone: a build may be writing it.
        superseded: Also give up builds that another one replaced, with their manifests.

    Raises:
        VerificationError: Nothing is published, or a manifest or its inputs can't be read: then nothing
            is known to be unneeded.
    """
    manifests = dict(all_manifests(store, (info.key for info in store.list(""))))
    if not list_recipes(store):
        raise VerificationError(
            f"{store.uri}: no published recipe, so all of it would be garbage; finish the build, or delete "
            "the output itself"
        )
    current = {m.fingerprint for key, m in manifests.items() if key.endswith("/manifest.json")}
    roots = [m for m in manifests.values() if not superseded or m.fingerprint in current]
    reachable = find_reachable(store, list({m.fingerprint: m for m in roots}.values()))
    garbage: list[Garbage] = []
    young = young_bytes = kept_bytes = 0
    for info, kind in _classified(store, reachable):
        if kind is None:
            kept_bytes += info.size_bytes
        elif info.modified is None or now - info.modified < min_age_seconds:
            young, young_bytes = young + 1, young_bytes + info.size_bytes
        else:
            garbage.append(Garbage(info.key, info.size_bytes, kind))
    hidden = _unfinished(store, now - min_age_seconds)
    return GcReport(tuple(sorted(garbage, key=_order)), young, young_bytes, kept_bytes, hidden)


def delete_garbage(store: Store, report: GcReport, *, now: float) -> int:
    """Delete what a report lists; the number of objects deleted.

    Raises:
        ConflictError: A build is running, or began meanwhile; what is deleted by then stays deleted.
    """
    check_no_run(store, now=now, verb="gc")
    for index, item in enumerate(report.garbage):
        if index and index % _CHECK_EVERY == 0:
            check_no_run(store, now=now, verb="gc")
        store.delete(item.key)
    for path in report.hidden:
        path.unlink(missing_ok=True)
    return len(report.garbage) + len(report.hidden)


def _classified(store: Store, reachable: Reachable) -> Iterator[tuple[ObjectInfo, str | None]]:
    """Every object with the kind of garbage it is, None for what stays."""
    for room, infos in itertools.groupby(store.list(""), key=lambda info: info.key.partition("/")[0]):
        if room == "frames":
            for _, files in itertools.groupby(infos, key=lambda info: info.key.rpartition("/")[0]):
                yield from _frames(store, list(files), reachable)
        elif room == "enrich":
            for _, files in itertools.groupby(infos, key=lambda info: info.key.split("/")[1]):
                yield from _enriched(list(files), reachable)
        elif room == "audits":
            for info in infos:
                yield info, "audits" if _is_stray_audit(store, info, reachable) else None
        else:
            for info in infos:
                yield info, _kind(room, info, reachable)


def _frames(
    store: Store, files: list[ObjectInfo], reachable: Reachable
) -> Iterator[tuple[ObjectInfo, str | None]]:
    levels = files[0].key.split("/")
    if len(levels) != 5:
        yield from ((info, None) for info in files)
        return
    stays = needed_layers(store, files, reachable) if levels[1] in reachable.names else set()
    for info in files:
        folder, _, name = info.key.rpartition("/")
        yield info, None if f"{folder}/{name.partition('.')[0]}" in stays else "frames"


def _enriched(files: list[ObjectInfo], reachable: Reachable) -> Iterator[tuple[ObjectInfo, str | None]]:
    """What was asked under one key stays together while a recipe uses one of its results."""
    results = [found[1] for info in files if (found := _ENRICHED.fullmatch(info.key))]
    is_used = not reachable.texts.isdisjoint(results)
    for info in files:
        is_ours = _ENRICHED.fullmatch(info.key) or _ANSWERS.fullmatch(info.key)
        yield info, "enrichments" if is_ours and not is_used else None


def _is_stray_audit(store: Store, info: ObjectInfo, reachable: Reachable) -> bool:
    """An audit is what a manifest says of it, so equal content is the same audit."""
    if not _AUDIT.fullmatch(info.key):
        return False
    try:
        return canonical_json(json.loads(store.get(info.key))) not in reachable.audits
    except ValueError:
        return True


def _kind(room: str, info: ObjectInfo, reachable: Reachable) -> str | None:
    levels = info.key.split("/")
    match room:
        case "catalog" if len(levels) == 3:
            return None if levels[1] in reachable.names else "catalogs"
        case "embeddings" if len(levels) == 4:
            stem = levels[3].removesuffix(".parquet").rpartition("-")[0]
            is_needed = levels[1] in reachable.names | reachable.embed_keys and stem in reachable.parts
            return None if is_needed or reachable.keeps_vectors else "vectors"
        case "similarities" if len(levels) == 3:
            stem = levels[2].removesuffix(".parquet").rpartition("-")[0]
            is_needed = levels[1] in reachable.similarity_keys and stem in reachable.parts
            return None if is_needed else "similarities"
        case "groups" | "plans" if len(levels) == 2:
            return None if info.key in reachable.names else room
        case "duplicates" if len(levels) == 2:
            return None if info.key in reachable.names or reachable.keeps_duplicates else room
        case "rejects" if len(levels) == 2:
            return None if levels[1].removesuffix(".parquet") in reachable.fingerprints else "rejects"
        case "runs":
            return "probes" if _PROBE.fullmatch(info.key) else None
    if _SHARD.fullmatch(info.key):
        return None if info.key in reachable.shards else "shards"
    if len(levels) == 3 and levels[1] == "manifests":
        return None if levels[2].removesuffix(".json") in reachable.fingerprints else "manifests"
    return None


def _order(item: Garbage) -> tuple[int, str]:
    """What makes others look complete goes first: manifests, `catalog.json`, indexes of layers."""
    name = item.key.rpartition("/")[2]
    is_index = item.kind == "frames" and name.endswith(".parquet") and name.count(".") == 1
    return (0 if item.kind == "manifests" or name == "catalog.json" or is_index else 1, item.key)


def _unfinished(store: Store, before: float) -> tuple[Path, ...]:
    if not isinstance(store, LocalStore):
        return ()
    hidden = store.hidden_files()
    return tuple(sorted(path for path, when in hidden if path.name.startswith(".tmp-") and when < before))
