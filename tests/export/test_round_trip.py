"""From videos to exports: reference equals inline, PNG frames survive, the tree tells all that was woven."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from builders import CountingStore
from PIL import Image
from world import render_world

from weave_data.catalog import build_catalog
from weave_data.config import BuildConfig, SourceConfig, load_config
from weave_data.export import export_recipe
from weave_data.export.videoweave import woven_id
from weave_data.pipeline import build
from weave_data.records import WovenSample
from weave_data.shard import WovenDataset, find_sample, iter_rows, open_dataset, verify_output
from weave_data.storage import open_store
from weave_data.tables import read_table_bytes, table_bytes


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 14 clips with PNG frames: one recipe inline, the same as references, and single clips."""
    root = tmp_path_factory.mktemp("round-trip")
    render_world(root / "source", num_clips=14, seed=2, size_px=(64, 80), seconds=1.0)
    shape = {"clips_per_sample": 2, "frames_per_sample": 4, "shard_rows": 4, "row_group_rows": 2}
    settings = {
        "source": {
            "kind": "webvid",
            "catalog": f"{root}/source/clips.csv",
            "videos": f"{root}/source/videos",
            "part_clips": 5,
        },
        "frames": {"short_side_px": 48, "format": "png"},
        "embedding": {"model": "none"},
        "recipes": [
            {"name": "inline", "strategy": "random", **shape},
            {"name": "reference", "strategy": "random", "pixels": "reference", **shape},
            {
                "name": "single",
                "strategy": "single",
                **shape,
                "clips_per_sample": 1,
                "epochs": 2,
                "split": {"val_last": 3},
            },
        ],
        "output": str(root / "woven"),
        "execution": {"in_process": True},
    }
    build(load_config(BuildConfig, settings, origin="test"))
    return root / "woven"


def rows(dataset: WovenDataset) -> list[WovenSample]:
    return list(iter_rows(dataset.store, dataset.manifest))


def test_a_built_recipe_reads_the_same_from_references(output: Path) -> None:
    inline, reference = (open_dataset(f"{output}/{name}") for name in ("inline", "reference"))
    assert (inline.manifest.pixels, reference.manifest.pixels) == ("inline", "reference")
    assert len(rows(inline)) == 7
    by_clips = {tuple(c.clip_id for c in s.clips): s.frames for s in rows(inline)}
    assert {tuple(c.clip_id for c in s.clips): s.frames for s in rows(reference)} == by_clips


def test_the_trainer_reads_references_with_the_code_that_reads_pixels(output: Path) -> None:
    from weave_train.feed import open_source

    inline, reference = (open_source(f"{output}/{name}", split="train") for name in ("inline", "reference"))
    for shard in range(len(inline.epochs[0])):
        pixels, gathered = (each.read(0, shard, 0, epoch=0) for each in (inline, reference))
        assert gathered.schema.equals(pixels.schema, check_metadata=True)
        assert sorted(len(row) for row in gathered["frames"].to_pylist()) == [4] * gathered.num_rows


@pytest.mark.parametrize("recipe", ["reference", "single"])
def test_a_sample_is_found_through_its_plan(output: Path, recipe: str) -> None:
    dataset = open_dataset(f"{output}/{recipe}")
    groups = dict.fromkeys((shard.split, shard.epoch) for shard in dataset.manifest.shards)
    for split, epoch in groups:
        for sample in iter_rows(dataset.store, dataset.manifest, split=split, epoch=epoch):
            counting = CountingStore(dataset.store)
            assert find_sample(counting, dataset.manifest, sample.sample_id) == sample
            shards = {key for _, key, *_ in counting.named("get_range") if key.startswith(f"{recipe}/")}
            assert len(shards) == 1  # its own


def test_a_sample_is_found_without_its_plan(output: Path) -> None:
    dataset = open_dataset(f"{output}/inline")
    lost = dataclasses.replace(
        dataset.manifest, inputs={**dataset.manifest.inputs, "plans": [["plans/gone", ""]]}
    )
    for sample in rows(dataset):
        assert find_sample(dataset.store, lost, sample.sample_id) == sample


def test_a_plan_of_another_order_misleads_nobody(output: Path) -> None:
    dataset = open_dataset(f"{output}/inline")
    plan = read_table_bytes(dataset.store.get(dataset.manifest.inputs["plans"][0][0]))
    reversed_plan = plan.take(list(range(plan.num_rows))[::-1])
    open_store(str(output)).put_new("plans/reversed.parquet", table_bytes(reversed_plan))
    wrong = dataclasses.replace(dataset.manifest, inputs={"plans": [["plans/reversed.parquet", ""]]})
    for sample in rows(dataset):
        assert find_sample(dataset.store, wrong, sample.sample_id) == sample


def test_a_built_output_verifies_down_to_the_sums_of_its_tars(output: Path) -> None:
    report = verify_output(open_store(str(output)))
    assert [item.recipe for item in report.recipes] == ["inline", "reference", "single"]
    assert report.notes == ()  # every tar that is pointed into has an index with its sum


@pytest.mark.parametrize("recipe", ["inline", "reference", "single"])
def test_the_exported_tree_holds_ids_indices_captions_and_pixels(
    output: Path, recipe: str, tmp_path: Path
) -> None:
    dataset = open_dataset(f"{output}/{recipe}")
    report = export_recipe(dataset, open_store(str(tmp_path)), "videoweave")
    records = json.loads((tmp_path / report.files[0][0]).read_text(encoding="utf-8"))
    for record, sample in zip(records, rows(dataset), strict=True):
        ids = [clip.clip_id for clip in sample.clips]
        assert record["id"] == (ids[0] if len(ids) == 1 else ", ".join(ids) + ",")
        captions = " ".join(f"{clip.caption}." for clip in sample.clips)
        assert record["conversations"][1]["value"] == captions
        assert record["frame_index"] == list(sample.frame_index)
        for name, frame in zip(record["frames"], sample.frames, strict=True):
            written = (tmp_path / "frames" / name).read_bytes()
            assert written == frame
            assert min(Image.open(io.BytesIO(written)).size) == 48


@pytest.mark.parametrize("recipe", ["inline", "single"])
def test_an_exported_tree_is_a_source_of_the_same_samples(output: Path, recipe: str, tmp_path: Path) -> None:
    dataset = open_dataset(f"{output}/{recipe}")
    report = export_recipe(dataset, open_store(str(tmp_path / "tree")), "videoweave")
    source = SourceConfig(
        kind="conversations",
        catalog=str(tmp_path / "tree" / report.files[0][0]),
        videos=str(tmp_path / "tree" / "frames"),
    )
    store = open_store(str(tmp_path / "again"))
    catalog = build_catalog(source, store)
    clips = pa.concat_tables([catalog.read_part(store, part) for part in catalog.parts]).to_pylist()
    keys = {clip["clip_id"]: clip["key"] for clip in clips}
    found = catalog.read_samples(store).to_pylist()
    records = json.loads((tmp_path / "tree" / report.files[0][0]).read_text(encoding="utf-8"))
    for sample, record, woven in zip(found, records, rows(dataset), strict=True):
        assert sample["sample_key"] == record["id"] == woven_id(woven)
        assert sample["conversations"] == [{"from": t.speaker, "value": t.value} for t in woven.conversations]
        frames = [keys[clip_id] for clip_id in sample["clip_ids"]]
        assert frames == record["frames"]
        stored = [(tmp_path / "tree" / "frames" / key).read_bytes() for key in frames]
        assert stored == list(woven.frames)  # PNG: the same bytes, so the same pixels
    assert catalog.read_rejects(store).num_rows == 0
