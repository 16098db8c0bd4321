"""Every kind of source builds from a bucket what it builds from a folder: the same manifests."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from servers import S3Server
from small_builds import settings

from weave_data.config import BuildConfig, load_config
from weave_data.pipeline import build
from weave_data.shard import list_recipes, verify_output
from weave_data.storage import open_store

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("s3-builds")]

NUM_CLIPS = 6
WOVEN = [
    {"name": "l1", "strategy": "single", "frames_per_sample": 3},
    {"name": "l2", "strategy": "random", "clips_per_sample": 2, "frames_per_sample": 4},
]
GIVEN = [{"name": "mix", "strategy": "given", "frames_per_clip": 3}]
BROKEN = b"not a video"

Clips = list[tuple[str, str, bytes]]  # id, caption, bytes
Source = tuple[dict[str, Any], list[dict[str, Any]]]  # places relative to the root, recipes


@pytest.fixture(scope="module")
def clips(rendered: Path) -> Clips:
    rows = list(csv.DictReader((rendered / "clips.csv").open(newline="")))[:NUM_CLIPS]
    files = {path.stem: path.read_bytes() for path in (rendered / "videos").rglob("*.mp4")}
    return [(row["videoid"], row.get("name") or row["caption"], files[row["videoid"]]) for row in rows]


def put(root: Path, key: str, data: bytes) -> None:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def folder(root: Path, clips: Clips) -> Source:
    for place, (name, caption, video) in enumerate(clips):
        stem = f"in/part {place % 2}/ü+{name}"  # what a bucket's keys must be quoted for
        put(root, f"{stem}.mp4", video)
        put(root, f"{stem}.txt", caption.encode())
    put(root, "in/broken.mp4", BROKEN)
    put(root, "in/broken.txt", b"nothing")
    return {"kind": "folder", "videos": "in"}, WOVEN


def webdataset(root: Path, clips: Clips) -> Source:
    for place in range(2):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for name, caption, video in clips[place::2]:
                facts = json.dumps({"caption": caption, "license": "CC0"}).encode()
                members = {"mp4": video, "txt": caption.encode(), "json": facts}
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{name}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        put(root, f"in/{place:05d}.tar", sink.getvalue())
    return {"kind": "webdataset", "videos": "in"}, WOVEN


def manifest(root: Path, clips: Clips) -> Source:
    for name, _, video in clips:
        put(root, f"in/{name}.mp4", video)
    rows = [{"path": f"{name}.mp4", "caption": caption} for name, caption, _ in clips]
    rows.append({"path": "gone.mp4", "caption": "not there"})
    put(root, "rows/clips.jsonl", "\n".join(map(json.dumps, rows)).encode())
    return {"kind": "manifest", "videos": "in", "catalog": "rows"}, WOVEN


def conversations(root: Path, clips: Clips) -> Source:
    sink = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(sink, "JPEG")
    put(root, "media/images/a.jpg", sink.getvalue())
    put(root, f"media/{clips[0][0]}.mp4", clips[0][2])

    def record(name: str, answer: str, **media: str) -> dict[str, Any]:
        asked = "<image>\nWhat is it?" if media else "What is one and one?"
        said = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
        return {"id": name, **media, "conversations": said}

    rows = [
        record("1", "a picture", image="images/a.jpg"),
        record("1", "the same picture", image="images/a.jpg"),
        record("2", "a video", video=f"{clips[0][0]}.mp4"),
        record("3", "two"),
        record("4", "nothing", image="images/gone.jpg"),
    ]
    put(root, "chat.json", json.dumps(rows).encode())
    return {"kind": "conversations", "videos": "media", "catalog": "chat.json"}, GIVEN


def configure(root: str, output: str, source: Source) -> BuildConfig:
    places, recipes = source
    values = settings("nowhere", output) | {
        "source": {"part_clips": 4}
        | {name: f"{root}/{value}" if name != "kind" else value for name, value in places.items()},
        "recipes": [{"shard_rows": 4, "row_group_rows": 2, **recipe} for recipe in recipes],
        "rejects": {"max_fraction": 0.5},
    }
    return load_config(BuildConfig, values, origin="test")


def manifests(output: str) -> dict[str, bytes]:
    store = open_store(output, readonly=True)
    return {name: store.get(f"{name}/manifest.json") for name in list_recipes(store)}


@pytest.mark.parametrize(
    "make", [folder, webdataset, manifest, conversations], ids=lambda make: make.__name__
)
def test_a_bucket_gives_the_manifests_of_a_folder(
    s3: S3Server, clips: Clips, tmp_path: Path, make: Callable[[Path, Clips], Source]
) -> None:
    root, bucket = tmp_path / "source", s3.new_bucket()
    source = make(root, clips)
    for path in root.rglob("*"):
        if path.is_file():
            s3.client().upload_file(str(path), bucket, f"source/{path.relative_to(root)}")
    here, there = str(tmp_path / "woven"), f"s3://{bucket}/woven"
    build(configure(str(root), here, source))
    build(configure(f"s3://{bucket}/source", there, source))
    local = manifests(here)
    assert len(local) == len(source[1])
    assert all(json.loads(data)["shards"] for data in local.values())
    assert manifests(there) == local
    verify_output(open_store(there, readonly=True))
    again = build(configure(f"s3://{bucket}/source", there, source))
    assert (again.files_written, again.notes) == (
        0,
        ("nothing to do: every recipe is there with these settings",),
    )
