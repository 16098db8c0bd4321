from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from weave_data.errors import ConfigError, VerificationError
from weave_data.report import describe_output, describe_sample, inspect_output, pick_samples
from weave_data.shard import iter_rows, manifest_sha256, read_manifest
from weave_data.storage import Store, open_store


def test_an_output_is_described_by_recipe_split_rows_and_bytes(store: Store) -> None:
    text = describe_output(store)
    for name in ("l1", "l4"):
        manifest = read_manifest(store, name)
        assert f"{name}: {manifest.num_rows} samples, {manifest.num_bytes:,} bytes" in text
        assert manifest_sha256(manifest) in text
    assert "val          epoch 0: 2 samples" in text
    assert inspect_output(store) == text
    assert "l1:" not in inspect_output(store, recipe="l4")


def test_the_machine_readable_output_agrees_with_the_manifests(store: Store) -> None:
    values = json.loads(inspect_output(store, as_json=True))
    assert [item["recipe"] for item in values["recipes"]] == ["l1", "l4"]
    for item in values["recipes"]:
        manifest = read_manifest(store, item["recipe"])
        assert item["rows"] == manifest.num_rows == sum(split["rows"] for split in item["splits"])
        assert item["bytes"] == manifest.num_bytes
        assert item["configuration"] == manifest.configuration


def test_a_sample_is_described_with_its_clips_frames_and_turns(store: Store) -> None:
    sample = list(iter_rows(store, read_manifest(store, "l4")))[4]
    text = inspect_output(store, sample=sample.sample_id[:10])
    assert text.startswith(f"sample {sample.sample_id}\n")
    for clip in sample.clips:
        assert clip.clip_id in text
        assert clip.caption in text
    assert sample.conversations[1].value in text
    assert f"{sample.frame_index[1]} ({sample.frame_seconds[1]:.2f} s)" in text


def test_a_sample_as_json_holds_everything_but_pixels(store: Store) -> None:
    sample = next(iter_rows(store, read_manifest(store, "l4")))
    values = json.loads(inspect_output(store, recipe="l4", sample=sample.sample_id, as_json=True))
    assert "frames" not in values
    assert values["frame_bytes"] == [len(frame) for frame in sample.frames]
    assert values["conversations"][0] == {"from": "human", "value": sample.conversations[0].value}
    assert [clip["caption"] for clip in values["clips"]] == [clip.caption for clip in sample.clips]
    assert values["frame_index"] == list(sample.frame_index)


def test_a_picture_is_written_beside_the_text(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    assert str(path) in inspect_output(store, image=path)
    with Image.open(path) as image:
        assert image.width == 1600
    assert json.loads(inspect_output(store, image=path, as_json=True))["image"] == str(path)


def test_a_picture_of_a_whole_output_shows_every_recipe_the_widest_first(store: Store) -> None:
    samples = pick_samples(store, [read_manifest(store, name) for name in ("l1", "l4")])
    assert [sample.recipe for sample in samples] == ["l4", "l1", "l4"]
    assert len({sample.sample_id for sample in samples}) == 3


def test_a_picture_into_a_missing_folder_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        inspect_output(store, image=tmp_path / "missing" / "sheet.png")


def test_unknown_recipes_and_samples_name_what_there_is(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'l8'; published recipes: l1, l4"):
        inspect_output(store, recipe="l8")
    with pytest.raises(ConfigError, match="no sample has an id beginning with 'zz' in recipe l4"):
        inspect_output(store, sample="zz")
    with pytest.raises(VerificationError, match="no published recipe"):
        inspect_output(open_store(str(tmp_path)))


def test_samples_of_one_picture_and_of_none_are_described(store: Store) -> None:
    sample = next(iter_rows(store, read_manifest(store, "l1")))
    image = dataclasses.replace(
        sample,
        frames=sample.frames[:1],
        frame_clip=(0,),
        frame_index=(0,),
        frame_seconds=(0.0,),
        num_frames=1,
    )
    assert "  1 frame of 32 x 32 px, " in describe_sample(image)
    none = dataclasses.replace(
        sample, frames=(), frame_clip=(), frame_index=(), frame_seconds=(), num_frames=0, clips=()
    )
    text = describe_sample(none)
    assert "no frames: text only; text" in text
    assert none.conversations[1].value in text


def test_every_size_of_a_samples_frames_is_named_once(store: Store) -> None:
    sample = next(iter_rows(store, read_manifest(store, "l1")))
    sink = io.BytesIO()
    Image.new("RGB", (20, 10)).save(sink, "PNG")
    mixed = dataclasses.replace(sample, frames=(*sample.frames[:3], sink.getvalue()))
    assert f"{sample.num_frames} frames of 32 x 32, 20 x 10 px" in describe_sample(mixed)


def test_recipes_of_several_sizes_are_among_those_pictured(store: Store) -> None:
    manifest = read_manifest(store, "l4")
    recipe = {**manifest.configuration["recipe"], "clips_per_sample": {"2": 0.5, "4": 0.5}}
    mixed = dataclasses.replace(manifest, configuration={"recipe": recipe})
    samples = pick_samples(store, [read_manifest(store, "l1"), mixed])
    assert [sample.recipe for sample in samples] == ["l4", "l1", "l4"]
