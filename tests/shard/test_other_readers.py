"""Shards load without this package."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from builders import make_world, publish_world
from PIL import Image

from weave_data.records import WovenSample
from weave_data.shard import Manifest, iter_rows
from weave_data.storage import open_store


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, list[WovenSample]]:
    root = tmp_path_factory.mktemp("woven")
    world = make_world(
        rows=20, val_rows=3, clips_per_sample=2, frames_per_sample=4, image_px=24, shard_rows=8
    )
    store = open_store(str(root))
    manifest = publish_world(world, store)
    return root, manifest, list(iter_rows(store, manifest))


def files_of(root: Path, manifest: Manifest) -> list[str]:
    return [str(root / shard.path) for shard in manifest.select(split="train")]


def test_hugging_face_datasets_reads_every_column(
    built: tuple[Path, Manifest, list[WovenSample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    root, manifest, samples = built
    loaded = datasets.load_dataset(
        "parquet", data_files=files_of(root, manifest), split="train", cache_dir=str(tmp_path)
    )
    assert [WovenSample.from_row(row) for row in loaded] == samples
    assert Image.open(io.BytesIO(loaded[0]["frames"][3])).size == (24, 24)


def test_pyarrow_dataset_reads_every_column(built: tuple[Path, Manifest, list[WovenSample]]) -> None:
    root, manifest, samples = built
    table = ds.dataset(files_of(root, manifest), format="parquet").to_table()
    assert [WovenSample.from_row(row) for row in table.to_pylist()] == samples


def test_pyarrow_dataset_reads_the_directory_of_a_split(
    built: tuple[Path, Manifest, list[WovenSample]],
) -> None:
    root, manifest, _ = built
    directory = root / "l4" / manifest.fingerprint[:12] / "val"
    table = ds.dataset(str(directory), format="parquet").to_table(columns=["sample_id", "split"])
    assert table["split"].to_pylist() == ["val"] * 3


@pytest.mark.process
def test_ray_data_reads_every_row(
    built: tuple[Path, Manifest, list[WovenSample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    root, manifest, samples = built
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000)
    try:
        rows = ray.data.read_parquet(files_of(root, manifest)).take_all()
    finally:
        ray.shutdown()
    assert sorted(row["sample_id"] for row in rows) == sorted(sample.sample_id for sample in samples)
    by_id = {sample.sample_id: sample for sample in samples}
    assert all(tuple(row["frames"]) == by_id[row["sample_id"]].frames for row in rows)
