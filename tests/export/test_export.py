"""Exports, read back by readers that know nothing of this package."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import World, make_world, publish_world
from mixed_rows import IMAGES, encoded, mixed_world
from PIL import Image

from weave_data.errors import CommitError, ConfigError
from weave_data.export import EXPORT_FORMATS, ExportReport, export_recipe
from weave_data.export.files import FolderNames, clip_folder
from weave_data.export.webdataset import WebDatasetWriter
from weave_data.records import PLAN_SCHEMA, WovenSample
from weave_data.shard import ADDRESS_SCHEMA, WovenDataset, iter_rows, manifest_sha256
from weave_data.storage import open_source, open_store
from weave_train.evaluate.tasks.catalog import find_task
from weave_train.evaluate.tasks.reading import TaskFiles


def publish(world: World, folder: Path) -> WovenDataset:
    store = open_store(str(folder))
    return WovenDataset(store, publish_world(world, store))


def export(dataset: WovenDataset, folder: Path, kind: str) -> ExportReport:
    return export_recipe(dataset, open_store(str(folder)), kind)


def samples_of(dataset: WovenDataset, split: str = "train", epoch: int = 0) -> list[WovenSample]:
    return list(iter_rows(dataset.store, dataset.manifest, split=split, epoch=epoch))


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def file_of(report: ExportReport, folder: Path, split: str = "train") -> Any:
    (name,) = [name for name, _ in report.files if name.endswith(f"-{split}.json")]
    return json.loads((folder / name).read_text(encoding="utf-8"))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> WovenDataset:
    world = make_world(
        rows=10, val_rows=3, clips_per_sample=4, frames_per_sample=8, image_px=24, shard_rows=4, num_epochs=2
    )
    return publish(world, tmp_path_factory.mktemp("woven"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> WovenDataset:
    return publish(mixed_world(pixels="reference"), tmp_path_factory.mktemp("mixed"))


def read_videoweave(annotation: Path, root: Path) -> list[tuple[list[str], list[np.ndarray], list[dict]]]:
    """What VideoWeave's code does with its files: ids split at commas, frames below the root, turns."""
    found = []
    for record in json.loads(annotation.read_text(encoding="utf-8")):
        ids = record["id"][:-1].split(",") if record["id"].endswith(",") else [record["id"]]
        frames = [np.asarray(Image.open(root / name).convert("RGB")) for name in record.get("frames", [])]
        found.append(([part.strip() for part in ids], frames, record["conversations"]))
    return found


def test_a_held_out_split_is_asked_about_by_the_captions_task(dataset: WovenDataset, tmp_path: Path) -> None:
    export(dataset, tmp_path, "captions")
    held_out = samples_of(dataset, "val")
    asked = find_task("captions").read(TaskFiles(open_source(str(tmp_path))))
    assert not asked.lost
    for question, sample in zip(asked.questions, held_out, strict=True):
        assert question.prompt == sample.conversations[0].value.replace("<image>", "").strip()
        assert question.references == (sample.conversations[1].value,)
        frames = sorted((tmp_path / str(question.video)).iterdir())
        assert [path.read_bytes() for path in frames] == list(sample.frames)


def test_captions_of_ones_own_come_before_an_export_and_two_exports_are_not_one(tmp_path: Path) -> None:
    row = {"id": "c", "video": "v", "captions": ["a dot"]}
    for name in ("a-val.json", "b-val.json"):
        (tmp_path / name).write_text(json.dumps([row]))
    files = TaskFiles(open_source(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"splits a-val\.json, b-val\.json; give a folder with one"):
        find_task("captions").read(files)
    (tmp_path / "captions.jsonl").write_text(json.dumps({**row, "id": "own"}))
    assert [question.id for question in find_task("captions").read(files).questions] == ["own"]


def test_what_is_no_caption_is_not_exported_as_one(mixed: WovenDataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frames and \d+ turns; a caption is one question and one answer"):
        export(mixed, tmp_path, "captions")


def test_videoweave_reads_its_own_tree(dataset: WovenDataset, tmp_path: Path) -> None:
    report = export(dataset, tmp_path, "videoweave")
    sha = manifest_sha256(dataset.manifest)
    assert [name for name, _ in report.files] == [
        f"l4-{sha[:12]}-{end}.json" for end in ("train", "train-epoch1", "val", "val-epoch1")
    ]
    for (name, _), (split, epoch) in zip(
        report.files, [("train", 0), ("train", 1), ("val", 0), ("val", 1)], strict=True
    ):
        samples = samples_of(dataset, split, epoch)
        records = read_videoweave(tmp_path / name, tmp_path / "frames")
        assert len(records) == len(samples)
        for (ids, frames, turns), sample in zip(records, samples, strict=True):
            assert ids == [clip.clip_id for clip in sample.clips]
            assert turns == [{"from": t.speaker, "value": t.value} for t in sample.conversations]
            assert all(np.array_equal(a, pixels(b)) for a, b in zip(frames, sample.frames, strict=True))


def test_a_videoweave_file_looks_as_the_original_does(dataset: WovenDataset, tmp_path: Path) -> None:
    report = export(dataset, tmp_path, "videoweave")
    text = (tmp_path / report.files[0][0]).read_text(encoding="utf-8")
    records = json.loads(text)
    assert text == json.dumps(records, indent=2, ensure_ascii=False) + "\n"
    first = samples_of(dataset)[0]
    a, b, c, d = (clip.clip_id for clip in first.clips)
    assert records[0]["id"] == f"{a}, {b}, {c}, {d},"
    assert records[0]["frames"][:3] == [f"{a}/0000.png", f"{a}/0001.png", f"{b}/0000.png"]
    assert records[0]["frame_index"] == list(first.frame_index)
    assert [clip["caption"] for clip in records[0]["clips"]] == [clip.caption for clip in first.clips]


def test_single_clips_images_and_texts_have_their_own_ids(mixed: WovenDataset, tmp_path: Path) -> None:
    report = export(mixed, tmp_path, "videoweave")
    records = {record["sample_id"]: record for record in file_of(report, tmp_path)}
    for sample in samples_of(mixed):
        record = records[sample.sample_id]
        assert ("frames" in record) == bool(sample.frames)
        if not sample.clips:
            assert record["id"] == sample.sample_id
        elif len(sample.clips) == 1:
            assert record["id"] == sample.clips[0].clip_id
    drawing = (tmp_path / "frames" / "drawing" / "0000.png").read_bytes()
    assert drawing == IMAGES["drawing"]  # stored as PNG, written as it is
    assert pixels((tmp_path / "frames" / "web-lossy" / "0000.png").read_bytes()).tolist() == (
        pixels(IMAGES["web-lossy"]).tolist()
    )


def other_frames(world: World) -> World:
    """Three samples of one clip: frames a b, frames b a's neighbours, and a b again."""
    rows, address = world.plan.to_pylist()[:3], world.addresses.to_pylist()[0]
    indices = address["frame_index"]
    for row, chosen in zip(rows, (indices[:2], indices[1:3], indices[:2]), strict=True):
        clip = {**row["clips"][0], "clip_id": address["clip_id"], "num_frames": 2}
        row.update(clips=[clip], frame_clip=[0, 0], frame_index=chosen, num_frames=2)
    plan = pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)
    return World(plan, world.addresses, world.tars, world.configuration)


def test_a_clip_with_other_frames_gets_another_folder(tmp_path: Path) -> None:
    world = other_frames(make_world(rows=3, clips_per_sample=1, frames_per_sample=3, image_px=24))
    dataset = publish(world, tmp_path / "woven")
    report = export(dataset, tmp_path / "out", "videoweave")
    first, second, third = file_of(report, tmp_path / "out")
    assert first["frames"] == third["frames"]
    own, other = first["frames"][0].split("/")[0], second["frames"][0].split("/")[0]
    assert other.startswith(f"{own}~")
    for record, sample in zip((first, second, third), samples_of(dataset), strict=True):
        for name, frame in zip(record["frames"], sample.frames, strict=True):
            written = (tmp_path / "out" / "frames" / name).read_bytes()
            assert np.array_equal(pixels(written), pixels(frame))


def test_folders_of_odd_clip_ids_are_safe_and_distinct() -> None:
    ids = ["a/b", "a%2Fb", "..", "~x", "x" * 300, "x" * 301, "coco/train2017/1.jpg"]
    folders = [clip_folder(clip_id) for clip_id in ids]
    assert len(set(folders)) == len(ids)
    assert not any("/" in folder or folder.startswith(".") for folder in folders)
    names = FolderNames()
    assert names.add("7", (0, 3)) == ("7", True)
    assert names.add("7", (0, 3)) == ("7", False)
    folder, is_new = names.add("7", (0, 4))
    assert (folder[:2], is_new) == ("7~", True)
    assert names.add("7", (0, 4)) == (folder, False)


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_an_export_is_the_same_files_again_and_whole_after_an_interruption(
    dataset: WovenDataset, tmp_path: Path, kind: str
) -> None:
    export(dataset, tmp_path / "straight", kind)
    straight = content_of(tmp_path / "straight")
    assert not [name for name in straight if name.startswith("unfinished")]
    for stop in (1, 3, 5):

        def interrupt(stage: str, done: int, total: int, unit: str, stop: int = stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        target = open_store(str(tmp_path / f"cut{stop}"))
        with pytest.raises(KeyboardInterrupt):
            export_recipe(dataset, target, kind, on_progress=interrupt)
        report = export_recipe(dataset, target, kind)
        assert report.shards_written == len(dataset.manifest.shards) - stop
        assert content_of(tmp_path / f"cut{stop}") == straight
    assert export(dataset, tmp_path / "straight", kind).shards_written == 0


@pytest.mark.parametrize("kind", sorted(set(EXPORT_FORMATS) - {"captions"}))  # not all rows have frames
def test_inline_and_reference_shards_export_the_same(tmp_path: Path, kind: str) -> None:
    found = []
    for pixels_ in ("inline", "reference"):
        report = export(
            publish(mixed_world(pixels=pixels_), tmp_path / pixels_), tmp_path / f"{pixels_}-out", kind
        )
        content = content_of(tmp_path / f"{pixels_}-out")
        found.append({name.replace(report.manifest_sha256[:12], ""): data for name, data in content.items()})
    for name in found[0].keys() | found[1].keys():
        if name not in ("export.json", "dataset_info.json") and not (
            kind == "webdataset" and name.endswith(".json")
        ):
            assert found[0][name] == found[1][name], name


def test_a_foreign_folder_is_refused_and_nothing_is_overwritten(
    dataset: WovenDataset, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no export"):
        export(dataset, tmp_path / "full", "videoweave")
    assert content_of(tmp_path / "full") == {"thesis.tex": b"mine"}
    with pytest.raises(ConfigError, match="is not empty"):
        export(dataset, Path(dataset.store.uri), "webdataset")
    export(dataset, tmp_path / "ours", "videoweave")
    with pytest.raises(
        ConfigError, match=r"holds the videoweave export of recipe l4, manifest sha256 \w{64}"
    ):
        export(dataset, tmp_path / "ours", "sharegpt")
    other = publish(make_world(rows=2, clips_per_sample=4, frames_per_sample=8, seed=9), tmp_path / "other")
    with pytest.raises(ConfigError, match="choose another folder"):
        export(other, tmp_path / "ours", "videoweave")
    with pytest.raises(ConfigError, match="format 'tfrecord': no such export; one of videoweave"):
        export(dataset, tmp_path / "new", "tfrecord")


def test_a_file_that_was_changed_is_not_overwritten(dataset: WovenDataset, tmp_path: Path) -> None:
    first = samples_of(dataset)[0].clips[0].clip_id
    target = open_store(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        export_recipe(dataset, target, "videoweave", on_progress=_stop)
    for note in (tmp_path / "unfinished").iterdir():
        note.unlink()
    (tmp_path / "frames" / first / "0000.png").write_bytes(b"retouched")
    with pytest.raises(CommitError, match=f"{first}/0000.png"):
        export_recipe(dataset, target, "videoweave")
    assert (tmp_path / "frames" / first / "0000.png").read_bytes() == b"retouched"


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_webdataset_tars_hold_stored_bytes_and_every_column(mixed: WovenDataset, tmp_path: Path) -> None:
    report = export(mixed, tmp_path, "webdataset")
    index = file_of(report, tmp_path)
    assert sum(entry["samples"] for entry in index) == mixed.manifest.num_rows
    members: dict[str, bytes] = {}
    for entry in index:
        with tarfile.open(tmp_path / entry["tar"]) as tar:
            members.update({item.name: tar.extractfile(item).read() for item in tar.getmembers()})
    for sample in samples_of(mixed):
        told = json.loads(members[f"{sample.sample_id}.json"])
        frames = [
            members[name]
            for name in sorted(members)
            if name.startswith(f"{sample.sample_id}.") and "json" not in name
        ]
        told["frames"] = frames
        assert WovenSample.from_row(told) == sample


def test_the_webdataset_package_reads_the_tars(mixed: WovenDataset, tmp_path: Path) -> None:
    import webdataset

    report = export(mixed, tmp_path, "webdataset")
    tars = [str(tmp_path / entry["tar"]) for entry in file_of(report, tmp_path)]
    loaded = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    samples = samples_of(mixed)
    assert [item["__key__"] for item in loaded] == [sample.sample_id for sample in samples]
    for item, sample in zip(loaded, samples, strict=True):
        assert item["json"]["num_frames"] == sample.num_frames
        pictures = [item[name] for name in sorted(item) if name[:1].isdigit()]
        decodable = [frame for frame in sample.frames if not frame.startswith((b"GIF", b"RIFF"))]
        shown = [picture for picture in pictures if not isinstance(picture, bytes)]
        assert len(pictures) == sample.num_frames
        assert all(np.array_equal(np.asarray(a), pixels(b)) for a, b in zip(shown, decodable, strict=False))


def test_a_tar_never_passes_its_limit(dataset: WovenDataset, tmp_path: Path) -> None:
    samples = samples_of(dataset)
    target = open_store(str(tmp_path))
    whole = WebDatasetWriter(target).write("whole-00000", samples)
    limit = whole[0]["bytes"] // 2
    pieces = WebDatasetWriter(target, max_tar_bytes=limit).write("cut-00000", samples)
    assert [piece["tar"] for piece in pieces][:2] == ["cut-00000.tar", "cut-00000-1.tar"]
    assert len(whole) == 1
    assert all(piece["bytes"] <= limit for piece in pieces)
    assert sum(piece["samples"] for piece in pieces) == len(samples)


def test_sharegpt_is_what_llama_factory_and_swift_expect(mixed: WovenDataset, tmp_path: Path) -> None:
    export(mixed, tmp_path, "sharegpt")
    info = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    entry = info["l4-train"]
    columns, tags = entry["columns"], entry["tags"]
    rows = json.loads((tmp_path / entry["file_name"]).read_text(encoding="utf-8"))
    assert len(rows) == mixed.manifest.num_rows
    for row, sample in zip(rows, samples_of(mixed), strict=True):
        messages, images = row[columns["messages"]], row[columns["images"]]
        roles = [message[tags["role_tag"]] for message in messages]
        assert roles == [tags["user_tag"], tags["assistant_tag"]] * (len(messages) // 2)
        assert sum(message[tags["content_tag"]].count("<image>") for message in messages) == len(images)
        assert [(tmp_path / name).read_bytes() for name in images] == list(sample.frames)
        assert messages[-1]["content"] == sample.conversations[-1].value


def test_a_text_with_a_stray_image_token_is_refused(tmp_path: Path) -> None:
    world = make_world(rows=1, clips_per_sample=1, frames_per_sample=3, image_px=24)
    rows = world.plan.to_pylist()
    rows[0]["conversations"][1]["value"] = "An <image> tag in HTML, and <image>."
    plan = pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)
    world = World(plan, world.addresses, world.tars, world.configuration)
    dataset = publish(world, tmp_path / "woven")
    with pytest.raises(ConfigError, match=r"sample \w{32}: its texts hold 2 <image> for 3 frames"):
        export(dataset, tmp_path / "out", "sharegpt")


def test_png_frames_come_back_bit_for_bit(tmp_path: Path) -> None:
    world = make_world(rows=2, clips_per_sample=1, frames_per_sample=2, image_px=24)
    png, rows = encoded("PNG", size=(24, 24), colour="coral"), world.addresses.to_pylist()
    for row in rows:
        row.update(frame_bytes=[len(png)] * 2, frame_offset=[0, 0])
    (key,) = world.tars
    addresses = pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)
    dataset = publish(World(world.plan, addresses, {key: png}, world.configuration), tmp_path / "woven")
    export(dataset, tmp_path / "out", "videoweave")
    written = [path.read_bytes() for path in (tmp_path / "out" / "frames").rglob("*.png")]
    assert written == [png] * 4
