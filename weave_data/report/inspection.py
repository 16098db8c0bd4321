"""What `weave-data inspect` shows: an output, one sample, or a picture of a few."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import WovenSample
from weave_data.report.contact_sheet import MAX_SAMPLES, frame_sizes, write_contact_sheet
from weave_data.shard import (
    Manifest,
    find_sample,
    iter_rows,
    list_recipes,
    manifest_sha256,
    read_manifest,
)
from weave_data.storage import Store

__all__ = [
    "describe_output",
    "describe_sample",
    "inspect_output",
    "output_json",
    "pick_samples",
    "sample_json",
]


def inspect_output(
    store: Store,
    *,
    recipe: str | None = None,
    sample: str | None = None,
    image: Path | None = None,
    as_json: bool = False,
) -> str:
    """Text (or JSON) of an output, a recipe or a sample; optionally a picture beside it.

    Args:
        store: The output.
        recipe: Which recipe; all by default.
        sample: A sample id or the beginning of one.
        image: Where a contact sheet goes: of `sample`, or of the first three samples.
        as_json: Machine-readable, without pixels.

    Raises:
        ConfigError: No such recipe or sample.
        VerificationError: A manifest or shard can't be read.
    """
    manifests = _manifests(store, recipe)
    if sample is not None:
        found = _find(store, manifests, sample)
        shown = [found]
        content = sample_json(found) if as_json else None
        text = describe_sample(found)
    else:
        shown = pick_samples(store, manifests) if image is not None else []
        content = output_json(manifests) if as_json else None
        text = describe_output(store, manifests=manifests)
    if image is not None:
        _check_folder(image)
        write_contact_sheet(shown, image)
        if content is not None:
            content["image"] = str(image)
        text += f"\n\npicture of {len(shown)} sample{'' if len(shown) == 1 else 's'}: {image}"
    return json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) if as_json else text


def describe_output(store: Store, *, manifests: list[Manifest] | None = None) -> str:
    """Recipes, rows, bytes and splits of an output, as text."""
    shown = _manifests(store, None) if manifests is None else manifests
    blocks = []
    for manifest in shown:
        settings = manifest.configuration.get("recipe", {})
        lines = [
            f"{manifest.recipe}: {_amounts(manifest.num_rows, manifest.num_bytes, len(manifest.shards))}",
            f"  weave        {settings.get('strategy')}, {settings.get('clips_per_sample')} clips a sample",
            f"  frames       {settings.get('frames_per_sample')} a sample",
            *(
                f"  {row['split']:<12} epoch {row['epoch']}: "
                + _amounts(row["rows"], row["bytes"], row["shards"])
                for row in _split_rows(manifest)
            ),
            f"  fingerprint  {manifest.fingerprint[:12]}",
            f"  manifest     sha256 {manifest_sha256(manifest)}",
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join([store.uri, *blocks])


def output_json(manifests: list[Manifest]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "recipes": [
            {
                "recipe": manifest.recipe,
                "fingerprint": manifest.fingerprint,
                "manifest_sha256": manifest_sha256(manifest),
                "rows": manifest.num_rows,
                "bytes": manifest.num_bytes,
                "shards": len(manifest.shards),
                "splits": _split_rows(manifest),
                "totals": [count.to_json() for count in manifest.totals],
                "configuration": _plain(manifest.configuration),
            }
            for manifest in manifests
        ]
    }


def describe_sample(sample: WovenSample) -> str:
    """One sample as text: its clips, their frames, and the conversation; no pixels."""
    size_bytes = sum(len(frame) for frame in sample.frames)
    plural = "" if sample.num_frames == 1 else "s"
    frames = f"{sample.num_frames} frame{plural}{frame_sizes(sample)}, {size_bytes:,} bytes"
    if not sample.frames:
        frames = "no frames: text only"
    lines = [
        f"sample {sample.sample_id}",
        f"  {sample.recipe}, {sample.strategy}, {sample.split}, epoch {sample.epoch}",
        f"  {frames}; text {sample.text_bytes:,} bytes",
    ]
    for slot, clip in enumerate(sample.clips):
        places = [i for i, owner in enumerate(sample.frame_clip) if owner == slot]
        cluster = "" if clip.cluster_id < 0 else f", cluster {clip.cluster_id}"
        lines += [
            f"  clip {slot + 1}  {clip.clip_id}{cluster}  {clip.key}",
            f"    caption  {' '.join(clip.caption.split())}",
            "    frames   "
            + ", ".join(f"{sample.frame_index[i]} ({sample.frame_seconds[i]:.2f} s)" for i in places),
        ]
    lines += [f"  {turn.speaker:<6} {turn.value}" for turn in sample.conversations]
    return "\n".join(lines)


def sample_json(sample: WovenSample) -> dict[str, Any]:
    """One sample as plain data; frames are given by their sizes, not their bytes."""
    values = {
        item.name: getattr(sample, item.name) for item in dataclasses.fields(sample) if item.name != "frames"
    }
    values["clips"] = [dataclasses.asdict(clip) for clip in sample.clips]
    values["conversations"] = [{"from": turn.speaker, "value": turn.value} for turn in sample.conversations]
    values["frame_bytes"] = [len(frame) for frame in sample.frames]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def pick_samples(store: Store, manifests: list[Manifest]) -> list[WovenSample]:
    """Up to three samples: the first of each recipe, the widest weave first, then more of it.

    The plan's order is a seeded permutation, so the first rows are as good as random ones.
    """
    widest = sorted(
        manifests, key=lambda m: -_largest(m.configuration.get("recipe", {}).get("clips_per_sample", 0))
    )
    streams = [_rows(store, manifest) for manifest in widest]
    if len(streams) == 1:
        return list(itertools.islice(streams[0], MAX_SAMPLES))
    rounds = itertools.zip_longest(*(itertools.islice(stream, MAX_SAMPLES) for stream in streams))
    found = (sample for samples in rounds for sample in samples if sample is not None)
    return list(itertools.islice(found, MAX_SAMPLES))


def _largest(clips_per_sample: Any) -> int:
    """The largest L of one L or of weights by L."""
    sizes = clips_per_sample if isinstance(clips_per_sample, Mapping) else [clips_per_sample]
    return max((int(size) for size in sizes), default=0)


def _rows(store: Store, manifest: Manifest) -> itertools.chain[WovenSample]:
    groups = dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards)
    return itertools.chain.from_iterable(
        iter_rows(store, manifest, split=split, epoch=epoch) for split, epoch in groups
    )


def _manifests(store: Store, recipe: str | None) -> list[Manifest]:
    known = list_recipes(store)
    if not known:
        raise VerificationError(f"{store.uri}: no published recipe; is this an OUTPUT of weave-data build?")
    if recipe is not None and recipe not in known:
        raise ConfigError(f"{store.uri}: no recipe {recipe!r}; published recipes: {', '.join(known)}")
    return [read_manifest(store, name) for name in ([recipe] if recipe is not None else known)]


def _find(store: Store, manifests: list[Manifest], sample_id: str) -> WovenSample:
    problems: list[str] = []
    for manifest in manifests:
        try:
            return find_sample(store, manifest, sample_id)
        except ConfigError as error:
            problems += error.problems
    raise ConfigError(problems)


def _check_folder(image: Path) -> None:
    if not image.parent.is_dir():
        raise ConfigError(f"--image {image}: there is no folder {image.parent}; create it or choose another")


def _split_rows(manifest: Manifest) -> list[dict[str, Any]]:
    groups = dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards)
    rows = []
    for split, epoch in groups:
        shards = manifest.select(split=split, epoch=epoch)
        rows.append(
            {
                "split": split,
                "epoch": epoch,
                "rows": sum(shard.rows for shard in shards),
                "bytes": sum(shard.bytes for shard in shards),
                "shards": len(shards),
            }
        )
    return rows


def _amounts(rows: int, size_bytes: int, shards: int) -> str:
    return f"{rows:,} samples, {size_bytes:,} bytes, {shards:,} shard{'' if shards == 1 else 's'}"


def _plain(value: Any) -> Any:
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
