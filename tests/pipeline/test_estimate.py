"""A dry run writes nothing and says what a build then really does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_builds import NUM_CLIPS, MakeConfig

from weave_data.pipeline import BuildOptions, build
from weave_data.pipeline.estimate import samples_at_most
from weave_data.pipeline.probe import Interval


def dry_run(config: object) -> dict[str, str]:
    result = build(config, BuildOptions(dry_run=True))  # type: ignore[arg-type]
    return dict(line.split(": ", 1) for line in result.notes)


def total_bytes(output: Path, room: str) -> int:
    return sum(path.stat().st_size for path in (output / room).rglob("*.*"))


def number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match is not None, text
    return float(match[1].replace(",", ""))


def test_what_a_dry_run_says_is_what_the_build_then_stores(make_config: MakeConfig, tmp_path: Path) -> None:
    said = dry_run(make_config())
    assert not (tmp_path / "woven").exists()
    build(make_config())
    woven = tmp_path / "woven"
    assert said["dry run, nothing written"] == f"{NUM_CLIPS} rows in the catalog, {NUM_CLIPS} clips used"
    assert said["probe"].startswith("16 clips decoded; a clip takes")
    catalog_files = len(list((woven / "catalog").rglob("*.*")))
    assert said["catalog"].startswith(f"1 tasks, {catalog_files} PUT")
    assert number(r"([\d.e-]+) GB", said["catalog"]) * 1e9 == pytest.approx(
        total_bytes(woven, "catalog"), rel=0.01
    )
    layers = len(list((woven / "frames").rglob("*.parquet")))
    assert said["decode"].startswith(f"1 cores; {layers} tasks, {2 * layers} PUT, {NUM_CLIPS} GET")
    stored = sum(path.stat().st_size for path in (woven / "frames").rglob("*.tar"))
    assert number(r"([\d.e-]+) GB", said["decode"]) * 1e9 == pytest.approx(stored, rel=0.3)
    assert re.search(r"[\d.e-]+ h \([\d.e-]+ to [\d.e-]+\)", said["decode"])
    for recipe, shards in (("l1", 2), ("l4", 2)):
        assert f"in {shards} shards" in said[recipe]
        pixels = sum(path.stat().st_size for path in (woven / recipe).rglob("shard-*.parquet"))
        # tiny pictures: what is not pixels weighs as much as they do
        assert 0.3 < number(r"([\d.e-]+) GB", said[recipe]) * 1e9 / pixels < 3
    assert said["l4"].startswith("at most 6 samples in 2 shards; 2 tasks, 7 PUT, 24 GET")


def test_a_dry_run_over_an_output_changes_nothing_and_counts_what_is_there(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    build(make_config())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "woven").rglob("*")}
    more = {"name": "r2", "strategy": "random", "clips_per_sample": 2, "frames_per_sample": 4, "epochs": 3}
    config = make_config()
    recipes = [*config.recipes, type(config.recipes[0])(**more)]
    said = dry_run(config.model_copy(update={"recipes": recipes}))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "woven").rglob("*")} == before
    assert said["catalog"].startswith("1 tasks, 0 PUT, 0 GET")
    assert "4 parts have frames already" in said["decode"]
    assert said["l1"].startswith("there already with these settings; 0 tasks, 0 PUT")
    assert said["r2"].startswith("at most 39 samples in 3 shards; 3 tasks, 12 PUT, 78 GET")


def test_a_source_that_cannot_be_decoded_is_said_before_it_is_built(
    make_config: MakeConfig, rendered: Path, tmp_path: Path
) -> None:
    import shutil

    source = Path(shutil.copytree(rendered, tmp_path / "source"))
    for path in (source / "videos").rglob("*.mp4"):
        path.write_bytes(b"no video at all " * 40)
    assert dry_run(make_config(source=source))["probe"].startswith("no clip could be decoded")


def test_an_interval_covers_what_repeated_measuring_gives() -> None:
    found = Interval.of([1.0, 2.0, 3.0])
    assert (found.mean, round(found.low, 3), round(found.high, 3)) == (2.0, 0.0, 4.484)
    assert Interval.of([5.0]) == Interval(5.0, 5.0, 5.0)
    assert Interval.of([1.0, 1.0]).times(2).plus(1) == Interval(3.0, 3.0, 3.0)


def test_samples_follow_from_clips_and_lengths(make_config: MakeConfig) -> None:
    recipe = make_config().recipes[1]
    assert samples_at_most(recipe, 26) == 6
    assert samples_at_most(recipe.model_copy(update={"remainder": "keep"}), 26) == 7
    mixed = recipe.model_copy(update={"clips_per_sample": {2: 1.0, 4: 1.0}})
    assert samples_at_most(mixed, 30) == 10
