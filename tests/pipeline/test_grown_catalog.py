"""A catalog that grew: only the new units are decoded and embedded."""

from __future__ import annotations

import csv
from pathlib import Path

from small_builds import settings

from weave_data.config import BuildConfig, load_config
from weave_data.pipeline import BuildOptions, build
from weave_data.shard import read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.upkeep import diff_outputs


def partition(rendered: Path, folder: Path, name: str, rows: slice) -> None:
    with (rendered / "clips.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(clips[0]))
        writer.writeheader()
        writer.writerows(clips[rows])


def test_a_grown_catalog_keeps_every_frame_and_vector_there_is(rendered: Path, tmp_path: Path) -> None:
    values = settings(str(rendered), str(tmp_path / "w"))
    values["source"]["catalog"] = str(tmp_path / "partitions")
    config = load_config(BuildConfig, values, origin="test")
    partition(rendered, tmp_path / "partitions", "0000.csv", slice(0, 14))
    build(config)
    kept = {
        path: path.stat().st_mtime_ns
        for room in ("frames", "embeddings")
        for path in (tmp_path / "w" / room).rglob("*.*")
    }
    before = read_manifest(open_store(str(tmp_path / "w")), "l1")
    partition(rendered, tmp_path / "partitions", "0001.csv", slice(14, 26))
    result = build(config, BuildOptions(replace=True))
    now = {
        path: path.stat().st_mtime_ns
        for room in ("frames", "embeddings")
        for path in (tmp_path / "w" / room).rglob("*.*")
    }
    assert kept.items() <= now.items()
    parts = {path.parent.name for path in now.keys() - kept.keys() if "frames" in path.parts}
    assert parts
    assert all(name.startswith("0001") for name in parts)
    assert {recipe.name: recipe.rows for recipe in result.recipes} == {"l1": 26, "l4": 6}
    verify_output(open_store(str(tmp_path / "w")))
    after = read_manifest(open_store(str(tmp_path / "w")), "l1")
    told = f"{tmp_path / 'w'}/l1/manifests/{before.fingerprint}.json"
    found = diff_outputs(told, f"{tmp_path / 'w'}/l1").recipes[0]
    assert (found.same, sum(found.added.values()), found.removed, found.changed) == (14, 12, {}, {})
    assert (before.num_rows, after.num_rows) == (14, 26)
