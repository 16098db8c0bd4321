"""Small complete data sets for tests: plan + frame tars + addresses -> a published recipe.

    write_woven_dataset(tmp_path / "woven", rows=40, ...)   -> manifest uri, ready to read or train on
    make_world(...)                                         -> the plan, tars and addresses it is made of

Clips show one coloured square that moves; the caption says which colour and where to, so that a tiny
model can learn from them. Everything is a function of the seed.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from weave_data.records import PLAN_SCHEMA, StageCount, content_key
from weave_data.shard import (
    ADDRESS_SCHEMA,
    Manifest,
    ShardReceipt,
    ShardRequest,
    count_rows,
    publish,
    shard_path,
    shard_slices,
    write_shard,
)
from weave_data.storage import Store, commit_exact, open_store
from weave_data.tables import sha256_hex, table_bytes

COLOURS = {
    "red": (214, 48, 49),
    "green": (39, 174, 96),
    "blue": (41, 98, 255),
    "yellow": (253, 203, 40),
    "white": (245, 245, 245),
    "purple": (142, 68, 173),
}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
PROMPT = "Describe what is happening in the video."

_CLIPS_PER_TAR = 32


@dataclass(frozen=True)
class World:
    """What a shard is made from. `tars` maps keys (relative to the output) to bytes."""

    plan: pa.Table
    addresses: pa.Table
    tars: dict[str, bytes]
    configuration: dict[str, Any]


def make_world(
    *,
    rows: int,
    clips_per_sample: int = 4,
    frames_per_sample: int = 16,
    val_rows: int = 0,
    seed: int = 7,
    image_px: int = 32,
    recipe: str = "l4",
    num_epochs: int = 1,
    shard_rows: int = 16,
    row_group_rows: int = 4,
) -> World:
    """Plan of `rows` training samples (+ `val_rows`), with every frame stored in tars."""
    per_clip = frames_per_sample // clips_per_sample
    rng = np.random.default_rng(seed)
    clips = [
        _make_clip(index, per_clip, image_px, rng) for index in range((rows + val_rows) * clips_per_sample)
    ]
    # recipes of other shapes may share one output: their frames lie under other keys
    frames_key = content_key("frames", clips=len(clips), per_clip=per_clip, seed=seed, image_px=image_px)
    tars, addresses = _store_clips(clips, frames_key, image_px)
    strategy = "single" if clips_per_sample == 1 else "clustered"
    plan_rows = []
    for split, first, last in (("train", 0, rows), ("val", rows, rows + val_rows)):
        for epoch in range(num_epochs):
            for row in range(first, last):
                members = clips[row * clips_per_sample : (row + 1) * clips_per_sample]
                plan_rows.append(_plan_row(members, recipe, strategy, split, epoch, row))
    configuration = {
        "source": {"kind": "webvid", "path": None, "part_clips": "auto", "limit": None},
        "frames": {"policy": "linspace", "short_side_px": image_px, "format": "jpeg", "quality": 90},
        "recipe": {
            "name": recipe,
            "strategy": strategy,
            "clips_per_sample": clips_per_sample,
            "frames_per_sample": frames_per_sample,
            "seed": seed,
            "prompt": PROMPT,
            "shard_rows": shard_rows,
            "row_group_rows": row_group_rows,
        },
    }
    plan = pa.Table.from_pylist(plan_rows, schema=PLAN_SCHEMA)
    return World(plan, addresses, tars, configuration)


def write_world(world: World, store: Store) -> list[str]:
    """Put the tars of a world into an output; their keys."""
    return [commit_exact(store, key, data).key for key, data in world.tars.items()]


def write_shards(
    world: World, store: Store, fingerprint: str, *, scratch_dir: Path | None = None
) -> list[ShardReceipt]:
    """Every shard of a world's plan, in order."""
    settings = world.configuration["recipe"]
    receipts = []
    for piece in shard_slices(count_rows(world.plan), settings["shard_rows"]):
        request = ShardRequest(
            shard_path(settings["name"], fingerprint, piece),
            piece.split,
            piece.epoch,
            settings["row_group_rows"],
            settings.get("pixels", "inline"),
        )
        rows = world.plan.slice(piece.start, piece.num_rows)
        receipts.append(write_shard(request, rows, world.addresses, store, scratch_dir=scratch_dir))
    return receipts


def build_manifest(world: World, store: Store) -> Manifest:
    """Write tars and shards; the manifest that describes them, not yet published."""
    write_world(world, store)
    settings = world.configuration["recipe"]
    inputs = {"catalog": "c" * 32, "plan": sha256_hex(table_bytes(world.plan))}
    draft = _manifest(world, inputs, ())
    receipts = write_shards(world, store, draft.fingerprint)
    assert settings["shard_rows"] == draft.shard_rows
    return _manifest(world, inputs, tuple(receipts))


def publish_world(world: World, store: Store) -> Manifest:
    """`build_manifest`, published."""
    manifest = build_manifest(world, store)
    publish(store, manifest)
    return manifest


def write_woven_dataset(
    root: Path | str,
    *,
    rows: int,
    clips_per_sample: int = 4,
    frames_per_sample: int = 16,
    shard_rows: int = 16,
    row_group_rows: int = 4,
    seed: int = 7,
    image_px: int = 32,
    val_rows: int = 0,
    recipe: str = "l4",
) -> str:
    """Write a complete little woven data set and return the uri of its manifest.

    Args:
        root: The output; a local directory or any uri `open_store` takes.
        rows: Samples of the train split, epoch 0.
        clips_per_sample: L.
        frames_per_sample: T, a multiple of L.
        shard_rows: Rows of a full shard, a multiple of `row_group_rows`.
        row_group_rows: Rows of a full row group.
        seed: Other clips, captions and pixels.
        image_px: Side of the square frames.
        val_rows: Samples of the val split, of other clips.
        recipe: Name of the recipe.
    """
    world = make_world(
        rows=rows,
        clips_per_sample=clips_per_sample,
        frames_per_sample=frames_per_sample,
        val_rows=val_rows,
        seed=seed,
        image_px=image_px,
        recipe=recipe,
        shard_rows=shard_rows,
        row_group_rows=row_group_rows,
    )
    publish_world(world, open_store(str(root)))
    return f"{root}/{recipe}/manifest.json"


@dataclass(frozen=True)
class _MadeClip:
    clip_id: str
    caption: str
    num_frames: int
    frame_index: list[int]
    frame_seconds: list[float]
    jpegs: list[bytes]


def _make_clip(index: int, num_frames: int, image_px: int, rng: np.random.Generator) -> _MadeClip:
    colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    direction = list(DIRECTIONS)[int(rng.integers(len(DIRECTIONS)))]
    pace = ["slowly", "quickly", "steadily", ""][int(rng.integers(4))]
    background = rng.integers(20, 110, 3)
    source_frames = int(rng.integers(max(8, num_frames), 40))
    frame_index = np.linspace(0, source_frames - 1, num_frames).astype(int).tolist()
    jpegs = [
        _draw(colour, direction, frame / max(1, source_frames - 1), background, image_px)
        for frame in frame_index
    ]
    return _MadeClip(
        clip_id=f"{10_000_000 + index}",
        caption=" ".join(f"a {colour} square moves {direction} {pace}".split()),
        num_frames=source_frames,
        frame_index=frame_index,
        frame_seconds=[frame / 25 for frame in frame_index],
        jpegs=jpegs,
    )


def _draw(colour: str, direction: str, progress: float, background: Any, image_px: int) -> bytes:
    pixels = np.empty((image_px, image_px, 3), np.uint8)
    pixels[:] = background
    side = image_px // 3
    across = (progress - 0.5) * (image_px - side)
    step_x, step_y = DIRECTIONS[direction]
    middle = (image_px - side) / 2
    left, top = round(middle + step_x * across), round(middle + step_y * across)
    pixels[top : top + side, left : left + side] = COLOURS[colour]
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def _store_clips(clips: list[_MadeClip], frames_key: str, image_px: int) -> tuple[dict[str, bytes], pa.Table]:
    tars, addresses = {}, []
    for part, first in enumerate(range(0, len(clips), _CLIPS_PER_TAR)):
        key = f"frames/{frames_key}/{part % 256:02x}/part-{part:05d}/layer.tar"
        sink = io.BytesIO()
        members = clips[first : first + _CLIPS_PER_TAR]
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in members:
                for index, jpeg in zip(clip.frame_index, clip.jpegs, strict=True):
                    entry = tarfile.TarInfo(f"{clip.clip_id}/{index:06d}.jpg")
                    entry.size = len(jpeg)
                    tar.addfile(entry, io.BytesIO(jpeg))
        tars[key] = sink.getvalue()
        with tarfile.open(fileobj=io.BytesIO(tars[key])) as tar:
            offsets = {entry.name: entry.offset_data for entry in tar.getmembers()}
        addresses += [_address(clip, key, offsets, image_px) for clip in members]
    return tars, pa.Table.from_pylist(addresses, schema=ADDRESS_SCHEMA)


def _address(clip: _MadeClip, key: str, offsets: dict[str, int], image_px: int) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "source_frames": clip.num_frames,
        "source_seconds": max(clip.frame_seconds, default=0.0),
        "width": image_px,
        "height": image_px,
        "frame_index": clip.frame_index,
        "frame_seconds": clip.frame_seconds,
        "frame_offset": [offsets[f"{clip.clip_id}/{index:06d}.jpg"] for index in clip.frame_index],
        "frame_bytes": [len(jpeg) for jpeg in clip.jpegs],
        "frame_tar": [key] * len(clip.jpegs),
    }


def _plan_row(
    members: list[_MadeClip], recipe: str, strategy: str, split: str, epoch: int, row: int
) -> dict[str, Any]:
    answer = " ".join(f"{clip.caption.capitalize()}." for clip in members)
    conversations = [{"from": "human", "value": PROMPT}, {"from": "gpt", "value": answer}]
    identity = f"{recipe}/{epoch}/" + "/".join(clip.clip_id for clip in members)
    return {
        "sample_id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "frame_clip": [slot for slot, clip in enumerate(members) for _ in clip.frame_index],
        "frame_index": [index for clip in members for index in clip.frame_index],
        "clips": [
            {
                "clip_id": clip.clip_id,
                "key": f"videos/{clip.clip_id}.mp4",
                "caption": clip.caption,
                "cluster_id": row % 5,
                "num_frames": len(clip.frame_index),
            }
            for clip in members
        ],
        "conversations": conversations,
        "recipe": recipe,
        "strategy": strategy,
        "split": split,
        "epoch": epoch,
        "num_frames": sum(len(clip.frame_index) for clip in members),
        "text_bytes": len(PROMPT.encode()) + len(answer.encode()),
    }


def _manifest(world: World, inputs: dict[str, Any], receipts: tuple[ShardReceipt, ...]) -> Manifest:
    settings = world.configuration["recipe"]
    rows = world.plan.num_rows
    clips = rows * settings["clips_per_sample"]
    return Manifest(
        recipe=settings["name"],
        configuration=world.configuration,
        inputs=inputs,
        row_group_rows=settings["row_group_rows"],
        shard_rows=settings["shard_rows"],
        totals=(
            StageCount("catalog", clips + 3, clips + 2, {}, {"empty_caption": 1}),
            StageCount("decode", clips + 2, clips, {}, {"truncated": 1, "too_short": 1}),
            StageCount("weave", clips, clips),
        ),
        shards=tuple(receipt.entry for receipt in receipts),
    )


class CountingStore:
    """A store that remembers every call made to the one it wraps: `("get_range", key, start, stop)`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls: list[tuple[Any, ...]] = []

    @property
    def uri(self) -> str:
        return self.inner.uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.calls.append((name, *args))
            return method(*args, **options)

        return counted

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        """Calls of some verbs, in order."""
        return [call for call in self.calls if call[0] in names]

    def read_bytes(self) -> int:
        """Bytes asked for in ranges."""
        return sum(stop - start for _, _, start, stop in self.named("get_range"))
