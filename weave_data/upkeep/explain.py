"""`weave-data explain`: where every frame and every sentence of a sample came from.

plan      -> which row it is: clips, frames, turns      (one column read to find it)
shard     -> the seconds of its frames                  (one row group)
groups    -> group and slot of each clip
catalog   -> the source row of each clip, its caption as given
manifest  -> the settings that made it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import is_clip_question
from weave_data.errors import ConfigError, VerificationError
from weave_data.report.card import flatten_settings
from weave_data.shard import Manifest, ShardEntry, manifest_sha256, read_row_group
from weave_data.storage import ObjectInfo, Store
from weave_data.tables import read_table_bytes
from weave_data.upkeep.columns import iter_columns, open_parquet
from weave_data.upkeep.outputs import (
    CatalogEntry,
    catalog_entries,
    current_manifests,
    input_catalogs,
    stored_inputs,
)

__all__ = ["ClipOrigin", "Explanation", "TextOrigin", "explain_sample"]

_THREADS = 8


@dataclass(frozen=True)
class ClipOrigin:
    """Where one clip of a sample came from.

    `source_file` is relative to the source; a clip within a tar lies there at byte `offset` (-1: the whole
    object). `caption_given` is the source's, `caption_from` names the file that replaced it, if one did.
    `group_index` and `slot` are None where the recipe stores no groups.
    """

    clip_id: str
    source_file: str
    offset: int
    size_bytes: int
    media: str
    page: str
    licence: str
    part: str
    caption: str
    caption_given: str
    caption_from: str | None
    frame_index: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    cluster_id: int
    group_index: int | None
    slot: int | None


@dataclass(frozen=True)
class TextOrigin:
    """One turn; `spans` are (clip position, start, stop): which characters are which clip's caption."""

    speaker: str
    value: str
    origin: str
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Explanation:
    """A sample's history. `position` counts from 0 in reading order of its split and epoch."""

    sample_id: str
    recipe: str
    strategy: str
    split: str
    epoch: int
    position: int
    shard: str
    row: int
    clips: tuple[ClipOrigin, ...]
    turns: tuple[TextOrigin, ...]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    manifest_sha256: str
    record_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        return asdict(self)

    def lines(self) -> list[str]:
        """What the command line prints."""
        found = [
            f"sample {self.sample_id}",
            f"  {self.recipe}, {self.strategy}, {self.split}, epoch {self.epoch}, number {self.position}",
            f"  row {self.row} of {self.shard}",
            *([] if self.record_id is None else [f"  record {self.record_id!r} of the source"]),
        ]
        for slot, clip in enumerate(self.clips):
            found += [f"  clip {slot + 1}  {line}" if not i else f"    {line}" for i, line in _clip(clip)]
        for turn in self.turns:
            found.append(f"  {turn.speaker:<6} {turn.value}")
            found.append(f"    {turn.origin}")
            found += [
                f"    characters {start} to {stop}: caption of clip {slot + 1}"
                for slot, start, stop in turn.spans
            ]
        found.append("  made with")
        found += [f"    {name} = {value}" for name, value in self.settings.items()]
        found += [f"    inputs.{name} = {value}" for name, value in self.inputs.items()]
        return [*found, f"  manifest sha256 {self.manifest_sha256}"]


def _clip(clip: ClipOrigin) -> list[tuple[int, str]]:
    place = "" if clip.offset < 0 else f", bytes {clip.offset} to {clip.offset + clip.size_bytes}"
    frames = ", ".join(
        f"{index} ({seconds:.2f} s)"
        for index, seconds in zip(clip.frame_index, clip.frame_seconds, strict=True)
    )
    lines = [
        f"{clip.clip_id}  {clip.source_file}{place} ({clip.media}, {clip.size_bytes:,} bytes)",
        f"caption  {clip.caption_given}",
    ]
    if clip.caption_from is not None:
        lines.append(f"replaced by  {clip.caption}  (from {clip.caption_from})")
    lines.append(f"frames   {frames or 'none'}")
    cluster = "" if clip.cluster_id < 0 else f", cluster {clip.cluster_id}"
    if clip.group_index is not None:
        lines.append(f"group    {clip.group_index}, place {clip.slot}{cluster}")
    known = [("page", clip.page), ("licence", clip.licence)]
    lines += [f"{name:<8} {value}" for name, value in known if value]
    lines.append(f"catalog part {clip.part}")
    return list(enumerate(lines))


def explain_sample(store: Store, sample_id: str, *, recipe: str | None = None) -> Explanation:
    """Tell a sample's history.

    Args:
        store: The output.
        sample_id: Whole id, or a beginning that only one sample has.
        recipe: Where to look; in every recipe by default.

    Raises:
        ConfigError: No sample, or several, have that id.
        VerificationError: The plan or a file it came from is not stored.
    """
    found = [
        (manifest, place)
        for manifest in current_manifests(store, recipe)
        for place in _find(store, manifest, sample_id)
    ]
    if len(found) != 1:
        known = "no sample has" if not found else f"{len(found)} samples have"
        raise ConfigError(f"{store.uri}: {known} an id beginning with {sample_id!r}; give more of the id")
    manifest, place = found[0]
    row = _plan_row(store, place)
    shard, row_in_shard = _shard_row(manifest, place)
    seconds = _seconds(store, manifest, shard, row_in_shard, row["sample_id"])
    return Explanation(
        sample_id=row["sample_id"],
        recipe=manifest.recipe,
        strategy=row["strategy"],
        split=row["split"],
        epoch=row["epoch"],
        position=place.position,
        shard=shard.path,
        row=row_in_shard,
        clips=_clips(store, manifest, row, seconds),
        turns=tuple(_turn(turn, row, manifest) for turn in row["conversations"]),
        settings=flatten_settings(manifest.configuration),
        inputs=dict(manifest.inputs),
        manifest_sha256=manifest_sha256(manifest),
        record_id=row.get("record_id"),
    )


@dataclass(frozen=True)
class _Place:
    """Row `row` of a plan; number `position` of its split and epoch."""

    plan: ObjectInfo
    row: int
    split: str
    epoch: int
    position: int


def _find(store: Store, manifest: Manifest, prefix: str) -> list[_Place]:
    """Samples whose id begins with `prefix`; within a split and epoch plan order is reading order."""
    plans = stored_inputs(store, manifest, "plans")
    if plans is None:
        raise VerificationError(
            f"{store.uri}: the plan of recipe {manifest.recipe} is not stored; build again to restore it"
        )
    found: list[_Place] = []
    for plan in plans:
        first, counts = 0, dict[tuple[str, int], int]()
        for table in iter_columns(store, plan.key, plan.size_bytes, ["sample_id", "split", "epoch"]):
            for row in pc.indices_nonzero(pc.starts_with(table["sample_id"], prefix)).to_pylist():
                group = (table["split"][row].as_py(), table["epoch"][row].as_py())
                before = counts.get(group, 0) + _count(table.slice(0, row)).get(group, 0)
                found.append(_Place(plan, first + row, *group, before))
            for group, number in _count(table).items():
                counts[group] = counts.get(group, 0) + number
            first += table.num_rows
    return found


def _count(table: pa.Table) -> dict[tuple[str, int], int]:
    """Rows by split and epoch."""
    counts = table.group_by(["split", "epoch"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["split"], row["epoch"]): row["count_all"] for row in counts}


def _plan_row(store: Store, place: _Place) -> dict[str, Any]:
    file = open_parquet(store, place.plan.key, place.plan.size_bytes)
    row = place.row
    for index in range(file.num_row_groups):
        rows = file.metadata.row_group(index).num_rows
        if row < rows:
            return dict(file.read_row_group(index, use_threads=False).slice(row, 1).to_pylist()[0])
        row -= rows
    raise AssertionError("the row was found in this file")


def _shard_row(manifest: Manifest, place: _Place) -> tuple[ShardEntry, int]:
    """Shard of a sample, and its row within it."""
    row = place.position
    for shard in manifest.select(split=place.split, epoch=place.epoch):
        if row < shard.rows:
            return shard, row
        row -= shard.rows
    raise VerificationError(f"recipe {manifest.recipe}: its plan has more rows than its shards; run verify")


def _seconds(
    store: Store, manifest: Manifest, shard: ShardEntry, row: int, sample_id: str
) -> tuple[float, ...]:
    group, within = divmod(row, manifest.row_group_rows)
    stored = read_row_group(store, shard, group, columns=["sample_id", "frame_seconds"]).slice(within, 1)
    if stored["sample_id"][0].as_py() != sample_id:
        raise VerificationError(f"{shard.path}: row {row} is not sample {sample_id}; run weave-data verify")
    return tuple(stored["frame_seconds"][0].as_py())


def _clips(
    store: Store, manifest: Manifest, row: Mapping[str, Any], seconds: Sequence[float]
) -> tuple[ClipOrigin, ...]:
    clip_ids = [clip["clip_id"] for clip in row["clips"]]
    given = _catalog_rows(store, manifest, clip_ids)
    groups = _groups(store, manifest, clip_ids, row["epoch"])
    file = _caption_file(manifest)
    found = []
    for slot, clip in enumerate(row["clips"]):
        places = [place for place, owner in enumerate(row["frame_clip"]) if owner == slot]
        part, source = given[clip["clip_id"]]
        is_replaced = clip["caption"] != source["caption"]
        group_index, group_slot = groups.get(clip["clip_id"], (None, None))
        found.append(
            ClipOrigin(
                clip_id=clip["clip_id"],
                source_file=clip["key"],
                offset=source["offset"],
                size_bytes=source["size_bytes"],
                media=source["media"],
                page=source["page"],
                licence=source["licence"],
                part=part,
                caption=clip["caption"],
                caption_given=source["caption"],
                caption_from=file if is_replaced else None,
                frame_index=tuple(row["frame_index"][place] for place in places),
                frame_seconds=tuple(seconds[place] for place in places),
                cluster_id=clip["cluster_id"],
                group_index=group_index,
                slot=group_slot,
            )
        )
    return tuple(found)


def _catalog_rows(
    store: Store, manifest: Manifest, clip_ids: Sequence[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Part and catalog row of each clip; reads the id column of the parts until all are found."""
    entries = [entry for key in input_catalogs(manifest) for entry in catalog_entries(store, key)]
    wanted = pa.array(sorted(set(clip_ids)), pa.string())
    found: dict[str, tuple[str, dict[str, Any]]] = {}

    def look(entry: CatalogEntry) -> list[tuple[str, dict[str, Any]]]:
        info = next(iter(store.list(entry.key)), None)
        if info is None:
            return []
        ids = [table["clip_id"] for table in iter_columns(store, entry.key, info.size_bytes, ["clip_id"])]
        if not any(pc.any(pc.is_in(column, value_set=wanted)).as_py() for column in ids):
            return []
        table = read_table_bytes(store.get(entry.key))
        rows = table.filter(pc.is_in(table["clip_id"], value_set=wanted)).to_pylist()
        return [(entry.part, row) for row in rows]

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="explain") as pool:
        for start in range(0, len(entries), 8 * _THREADS):
            for rows in pool.map(look, entries[start : start + 8 * _THREADS]):
                found.update({row["clip_id"]: (part, row) for part, row in rows})
            if len(found) == len(wanted):
                return found
    missing = sorted(set(clip_ids) - set(found))
    raise VerificationError(
        f"{store.uri}: clip {missing[0]} is in the plan but in no part of its catalog; the catalog's files "
        "are gone or damaged: run the build again to restore them"
    )


def _groups(
    store: Store, manifest: Manifest, clip_ids: Sequence[str], epoch: int
) -> dict[str, tuple[int, int]]:
    """Group and slot of each clip in the epoch, where the recipe's groups are stored."""
    stored = stored_inputs(store, manifest, "groups") or []
    wanted = pa.array(clip_ids, pa.string())
    found: dict[str, tuple[int, int]] = {}
    for info in stored[epoch : epoch + 1]:
        for table in iter_columns(store, info.key, info.size_bytes, ["clip_id", "group_index", "slot"]):
            for row in table.filter(pc.is_in(table["clip_id"], value_set=wanted)).to_pylist():
                found[row["clip_id"]] = (row["group_index"], row["slot"])
    return found


def _caption_file(manifest: Manifest) -> str:
    """The caption file of the settings, as far as they name one."""
    for settings in (manifest.configuration.get("recipe", {}), manifest.configuration):
        captions = settings.get("captions")
        if isinstance(captions, Mapping):
            given = captions.get("file") or captions.get("sha256")
            sums = manifest.inputs.get("captions")
            return f"{given}" + (f", sha256 {sums}" if isinstance(sums, str) else "")
    return "the recipe's own wording"


def _turn(turn: Mapping[str, str], row: Mapping[str, Any], manifest: Manifest) -> TextOrigin:
    value, recipe = turn["value"], manifest.configuration.get("recipe", {})
    spans, start = [], 0
    for slot, clip in enumerate(row["clips"]):
        caption = clip["caption"].strip().rstrip(".")
        place = value.find(caption, start) if caption else -1
        if place >= 0:
            start = place + len(caption)
            spans.append((slot, place, start))
    asked = [item["value"] for item in row["conversations"] if item["from"] == "human"]
    if recipe.get("clip_questions") and all(is_clip_question(text) for text in asked):
        return TextOrigin(turn["from"], value, "recipe.clip_questions", tuple(spans))
    if turn["from"] == "human":
        is_prompt = recipe.get("prompt") and recipe["prompt"] in value
        origin = "recipe.prompt" if is_prompt else _other_prompt(recipe)
        return TextOrigin("human", value, origin, ())
    join = recipe.get("caption_join")
    origin = (
        f"captions joined by recipe.caption_join = {join}" if spans else "as the source or recipe gives it"
    )
    return TextOrigin(turn["from"], value, origin, tuple(spans))


def _other_prompt(recipe: Mapping[str, Any]) -> str:
    return "one of recipe.prompts" if recipe.get("prompts") else "as the source gives it"
