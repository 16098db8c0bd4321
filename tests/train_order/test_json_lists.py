"""JSON lists are read as they are: every form, frames from the videos, errors with names."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listed import NUM_FRAMES, records, write_list, write_media
from PIL import Image
from rendering import read_bar_code

from weave_data.config import FramesConfig
from weave_data.errors import ConfigError, SourceError, StoreError, VerificationError
from weave_data.records import WOVEN_SCHEMA
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.feed import FrameSampling, JsonListSource, list_components, open_json_lists, open_sources

WOVEN, PHOTO, PAIR, TEXT, AGAIN, ONE = range(6)
SAMPLING = FrameSampling(policy="random-sorted", frames_per_sample=4, frames=FramesConfig(short_side_px=48))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("listed")
    write_media(root / "media")
    write_list(root / "list.json")
    return root


def open_list(root: Path, **changes: Any) -> JsonListSource:
    sampling = dataclasses.replace(SAMPLING, **changes)
    return open_json_lists([str(root / "list.json")], str(root / "media"), name="tiny", sampling=sampling)


def read(source: JsonListSource, index: int, *, epoch: int = 0) -> dict[str, Any]:
    table = source.read(0, 0, index, epoch=epoch)
    assert table.schema.equals(WOVEN_SCHEMA)
    assert len(table) == 1
    return table.to_pylist()[0]


def numbers(row: dict[str, Any]) -> list[int]:
    return [read_bar_code(np.asarray(Image.open(io.BytesIO(frame)))) for frame in row["frames"]]


def config_of(**flags: Any) -> PretrainConfig:
    return load_pretrain_config([], values={"model": {"type": "tiny"}, **flags})


def test_frames_of_videos_are_those_the_row_names(root) -> None:
    row = read(open_list(root), WOVEN)
    assert numbers(row) == row["frame_index"]
    assert row["frame_clip"] == [0, 0, 0, 1, 1, 1]
    for clip in (row["frame_index"][:3], row["frame_index"][3:]):
        assert clip == sorted(set(clip))
    assert [(clip["key"], clip["num_frames"]) for clip in row["clips"]] == [("a.mp4", 3), ("b.mp4", 3)]
    assert (row["width"], row["height"], row["num_frames"]) == (80, 48, 6)
    assert row["conversations"] == records()[WOVEN]["conversations"]


def test_draws_depend_on_seed_epoch_sample_and_video_only(root) -> None:
    source = open_list(root)
    first = read(source, WOVEN)
    assert first == read(open_list(root), WOVEN)
    assert first["frame_index"][:3] != first["frame_index"][3:]
    others = [read(source, WOVEN, epoch=1), read(open_list(root, seed=8), WOVEN)]
    assert all(other["frame_index"] != first["frame_index"] for other in others)
    drawn = {index for epoch in range(30) for index in read(source, WOVEN, epoch=epoch)["frame_index"]}
    assert drawn == set(range(NUM_FRAMES))


@pytest.mark.parametrize(
    ("policy", "expected"), [("linspace", [0, 7, 15, 23]), ("segment-center", [3, 9, 15, 21])]
)
def test_other_policies_take_the_frames_a_build_takes(root, policy, expected) -> None:
    row = read(open_list(root, policy=policy), ONE, epoch=3)
    assert row["frame_index"] == numbers(row) == expected


def test_a_video_that_is_too_short_repeats_its_last_frame(root) -> None:
    row = read(open_list(root, frames_per_sample=NUM_FRAMES + 2), ONE)
    assert row["frame_index"] == [*range(NUM_FRAMES), NUM_FRAMES - 1, NUM_FRAMES - 1]


def test_images_frames_and_text_only_rows_are_rows_too(root) -> None:
    source = open_list(root)
    assert read(source, PHOTO)["frames"] == [(root / "media" / "photo.jpg").read_bytes()]
    pair = read(source, PAIR)
    assert [np.asarray(Image.open(io.BytesIO(frame))).mean() for frame in pair["frames"]] == [10, 240]
    text = read(source, TEXT)
    assert (text["frames"], text["clips"], text["num_frames"]) == ([], [], 0)


def test_an_id_that_repeats_is_told_apart_by_its_row(root) -> None:
    source = open_list(root)
    ids = [read(source, index)["sample_id"] for index in range(6)]
    assert ids == ["woven", "photo", "pair", "text", "photo#4", "one"]


def test_lengths_are_words_of_all_turns(root) -> None:
    table = open_list(root).lengths(0)
    assert table["is_multimodal"].to_pylist() == [True, True, True, False, True, True]
    assert table["length"].to_pylist() == [7, 7, 5, 6, 4, 5]


def test_the_fingerprint_follows_bytes_and_pixels_but_not_the_place(root, tmp_path) -> None:
    source = open_list(root)
    write_list(tmp_path / "list.json")
    moved = open_json_lists([str(tmp_path / "list.json")], str(root), name="other", sampling=SAMPLING)
    assert moved.fingerprint == source.fingerprint
    assert open_list(root, policy="linspace").fingerprint != source.fingerprint
    write_list(tmp_path / "list.json", records()[:-1])
    shorter = open_json_lists([str(tmp_path / "list.json")], str(root), name="tiny", sampling=SAMPLING)
    assert shorter.fingerprint != source.fingerprint


def test_several_lists_are_stored_epochs(root) -> None:
    write_list(root / "second.json", records()[:2])
    uris = [str(root / "list.json"), str(root / "second.json")]
    source = open_json_lists(uris, str(root / "media"), name="tiny", sampling=SAMPLING)
    assert source.shard_rows == ((6,), (2,))
    assert source.read(1, 0, 1, epoch=1).to_pylist()[0]["sample_id"] == "photo"


@pytest.mark.parametrize(
    ("name", "content", "error", "reason"),
    [
        ("gone.jpg", None, StoreError, "no such file"),
        ("cut.jpg", b"\xff\xd8\xff\xe0 and no more", VerificationError, "no frames can be decoded"),
        ("cut.mp4", b"\x00\x00\x00\x18ftypmp42", VerificationError, "no frames can be decoded"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_record(tmp_path, name, content, error, reason) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    record = {**records()[ONE if name.endswith("mp4") else PHOTO], "id": "broken"}
    record["video" if name.endswith("mp4") else "image"] = name
    path = write_list(tmp_path / "list.json", [records()[TEXT], record])
    source = open_json_lists([str(path)], str(tmp_path), name="tiny", sampling=SAMPLING)
    with pytest.raises(error, match=rf"list\.json: record 1 \(broken\): .*{name}.*{reason}"):
        source.read(0, 0, 1, epoch=0)


def test_records_that_cannot_be_trained_on_are_refused_at_the_start(tmp_path) -> None:
    broken = {"id": "b", "conversations": [{"from": "human", "value": "hello"}]}
    path = write_list(tmp_path / "list.json", [records()[TEXT], broken, {"id": "c"}])
    with pytest.raises(ConfigError, match=r"2 of 3 records can't be trained on(.|\n)*record 1 \(b\)"):
        open_json_lists([str(path)], str(tmp_path), name="tiny", sampling=SAMPLING)


def test_a_list_that_is_missing_empty_or_no_json_is_refused(tmp_path) -> None:
    with pytest.raises(StoreError, match="gone.json: can't be read"):
        open_json_lists([str(tmp_path / "gone.json")], str(tmp_path), name="tiny", sampling=SAMPLING)
    path = write_list(tmp_path / "list.json", [])
    with pytest.raises(ConfigError, match="holds no record"):
        open_json_lists([str(path)], str(tmp_path), name="tiny", sampling=SAMPLING)
    path.write_text("[{")
    with pytest.raises(SourceError, match="not JSON"):
        open_json_lists([str(path)], str(tmp_path), name="tiny", sampling=SAMPLING)


def test_an_id_of_videoweave_names_its_lists() -> None:
    config = config_of(dataset={"type": "llava-v15", "dataset_root_dir": "s3://bucket/data"})
    finetune = list_components(config.dataset, stage="full-finetune")
    assert finetune.lists == ("s3://bucket/data/download/llava-v1.5-instruct/llava_v1_5_mix665k.json",)
    align = list_components(config.dataset, stage="align")
    assert align == (("s3://bucket/data/download/llava-laion-cc-sbu-558k/chat.json",), align.media)
    assert align.media == "s3://bucket/data/download/llava-laion-cc-sbu-558k"


def test_components_override_an_id(root) -> None:
    components = [str(root / "list.json"), str(root / "list.json"), "media"]
    dataset = {"type": "webvid", "finetune_stage_components": components, "dataset_root_dir": str(root)}
    config = config_of(dataset={**dataset, "frame_policy": "linspace"}, seed=3)
    (source,) = open_sources(config.dataset, config=config)
    assert isinstance(source, JsonListSource)
    assert source.shard_rows == ((6,), (6,))
    assert (source.sampling.policy, source.sampling.seed) == ("linspace", 3)
    assert len(read(source, ONE)["frames"]) == config.model.num_frames
    with pytest.raises(ConfigError, match="names 1 path"):
        list_components(
            config_of(dataset={"type": "webvid", "finetune_stage_components": ["a.json"]}).dataset,
            stage="finetune",
        )


def test_real_clips_and_photos_are_read(assets, tmp_path) -> None:
    videos = sorted((assets / "clips" / "videos").iterdir())[:6]
    photo = sorted((assets / "images").iterdir())[0]
    talk = records()[ONE]["conversations"]
    rows = [{"id": path.stem, "video": f"clips/videos/{path.name}", "conversations": talk} for path in videos]
    rows.append({"id": "photo", "image": f"images/{photo.name}", "conversations": talk})
    path = write_list(tmp_path / "list.json", rows)
    source = open_json_lists([str(path)], str(assets), name="real", sampling=SAMPLING)
    for index in range(len(videos)):
        row = read(source, index)
        assert row["num_frames"] == 4
        assert row["frame_index"] == sorted(set(row["frame_index"]))
        assert all(
            Image.open(io.BytesIO(frame)).size == (row["width"], row["height"]) for frame in row["frames"]
        )
        assert min(row["width"], row["height"]) == 48
    assert read(source, len(videos))["frames"] == [photo.read_bytes()]


@pytest.mark.server
def test_a_list_and_its_media_may_lie_in_a_bucket(s3, root) -> None:
    bucket = s3.new_bucket()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        s3.client().upload_file(str(path), bucket, f"data/{path.relative_to(root)}")
    uri = f"s3://{bucket}/data"
    source = open_json_lists([f"{uri}/list.json"], f"{uri}/media", name="tiny", sampling=SAMPLING)
    here = open_list(root)
    assert source.fingerprint == here.fingerprint
    assert [read(source, index) for index in range(6)] == [read(here, index) for index in range(6)]
    s3.client().delete_object(Bucket=bucket, Key="data/media/photo.jpg")
    with pytest.raises(StoreError, match=r"record 1 \(photo\).*photo.jpg: no such file"):
        read(source, PHOTO)
