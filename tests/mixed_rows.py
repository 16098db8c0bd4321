"""A world whose plan holds woven clips, single images of every format, and rows of text alone."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from typing import Any

import pyarrow as pa
from builders import World, make_world
from PIL import Image

from weave_data.records import PLAN_SCHEMA
from weave_data.shard import ADDRESS_SCHEMA


def encoded(kind: str, *, colour: str = "teal", size: tuple[int, int] = (20, 14), **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, kind, **options)
    return sink.getvalue()


def animated_gif() -> bytes:
    sink = io.BytesIO()
    pictures = [Image.new("P", (20, 14), index) for index in (1, 200)]
    pictures[0].save(sink, "GIF", save_all=True, append_images=pictures[1:])
    return sink.getvalue()


IMAGES = {
    "photo": encoded("JPEG"),
    "photo-with-a-tail": encoded("JPEG", colour="navy") + b"\0camera notes\0",
    "drawing": encoded("PNG"),
    "web-lossy": encoded("WEBP"),
    "web-lossless": encoded("WEBP", lossless=True),
    "still": encoded("GIF"),
    "moving": animated_gif(),
}


def mixed_world(*, pixels: str = "inline", **options: Any) -> World:
    """6 woven rows, each followed by an image or a text until all are told."""
    world = make_world(rows=6, clips_per_sample=2, frames_per_sample=4, image_px=24, shard_rows=8, **options)
    key, tar, addresses = _image_tar()
    woven = world.plan.to_pylist()
    extra = [_row(woven[0], name) for name in IMAGES] + [_row(woven[0], None, n) for n in range(5)]
    rows = [row for pair in zip(woven, extra, strict=False) for row in pair] + extra[len(woven) :]
    configuration = {**world.configuration, "recipe": {**world.configuration["recipe"], "pixels": pixels}}
    return dataclasses.replace(
        world,
        plan=pa.Table.from_pylist(rows, schema=PLAN_SCHEMA),
        addresses=pa.concat_tables([world.addresses, addresses]),
        tars={**world.tars, key: tar},
        configuration=configuration,
    )


def _image_tar() -> tuple[str, bytes, pa.Table]:
    key, sink = "frames/images/00/part-images/layer.tar", io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in IMAGES.items():
            entry = tarfile.TarInfo(f"{name}/000000.jpg")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as tar:
        offsets = {entry.name: entry.offset_data for entry in tar.getmembers()}
    rows = [
        {
            "clip_id": name,
            "source_frames": 1,
            "source_seconds": 0.0,
            "width": 20,
            "height": 14,
            "frame_index": [0],
            "frame_seconds": [0.0],
            "frame_offset": [offsets[f"{name}/000000.jpg"]],
            "frame_bytes": [len(data)],
            "frame_tar": [key],
        }
        for name, data in IMAGES.items()
    ]
    return key, sink.getvalue(), pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)


def _row(like: dict[str, Any], image: str | None, number: int = 0) -> dict[str, Any]:
    clip = {"clip_id": image, "key": f"{image}.x", "caption": "c", "cluster_id": -1, "num_frames": 1}
    question = f"<image>\nWhat is {image}?" if image else f"Text {number}?"
    return {
        **like,
        "sample_id": hashlib.sha256(f"{image} {number}".encode()).hexdigest()[:32],
        "frame_clip": [0] if image else [],
        "frame_index": [0] if image else [],
        "clips": [clip] if image else [],
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "Yes."}],
        "num_frames": 1 if image else 0,
        "text_bytes": len(question) + 4,
    }
