"""A whole build in one process: counted, committed once, the same bytes in any order."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rendering import Rendering, audio_only_bytes, render_video, without_samples
from small_builds import NUM_CLIPS, MakeConfig

from weave_data.errors import ConflictError, IncompleteError, RejectLimitError, SourceError
from weave_data.execute import InProcessExecutor, Step
from weave_data.pipeline import BuildOptions, build
from weave_data.shard import read_manifest, verify_output
from weave_data.storage import open_store

BROKEN_REASONS = (
    "truncated", "empty_file", "not_a_video", "missing", "empty_caption", "no_video_stream", "no_frames",
    "too_short",
)  # fmt: skip


def manifests(output: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in sorted(output.glob("*/manifest.json"))}


class ShuffledExecutor(InProcessExecutor):
    """Runs the items of a step in another order."""

    def run(self, step: Step) -> Iterator[Any]:
        items = list(step.items)
        random.Random(len(items)).shuffle(items)
        yield from super().run(Step(step.name, items, step.work, step.then))


def test_a_build_verifies_and_holds_every_clip_once_per_recipe(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    result = build(make_config())
    verify_output(open_store(str(tmp_path / "woven")))
    rows = {recipe.name: recipe.rows for recipe in result.recipes}
    assert rows == {"l1": NUM_CLIPS, "l4": NUM_CLIPS // 4}
    shards = sorted((tmp_path / "woven" / "l4").glob("*/train/epoch=0/*.parquet"))
    clips = [c["clip_id"] for path in shards for row in pq.read_table(path)["clips"].to_pylist() for c in row]
    assert len(clips) == len(set(clips)) == NUM_CLIPS // 4 * 4


def test_the_same_manifest_whatever_the_order_and_the_place(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config(output=tmp_path / "a"))
    build(make_config(output=tmp_path / "b"), executor=ShuffledExecutor())
    assert manifests(tmp_path / "a") == manifests(tmp_path / "b")
    assert len(manifests(tmp_path / "a")) == 2


def test_nothing_about_place_or_time_is_in_a_manifest(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config())
    for text in manifests(tmp_path / "woven").values():
        assert str(tmp_path) not in text
        assert "execution" not in text


def test_a_finished_build_does_nothing_and_says_so(make_config: MakeConfig, tmp_path: Path) -> None:
    first = build(make_config())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "woven").rglob("*.*")}

    class NoExecutor(InProcessExecutor):
        def run(self, step: Step) -> Iterator[Any]:
            raise AssertionError("a finished build ran a step")

    again = build(make_config(), executor=NoExecutor())
    assert [r.manifest_sha256 for r in again.recipes] == [r.manifest_sha256 for r in first.recipes]
    assert again.files_written == 0
    assert "nothing to do" in next(iter(again.lines()))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "woven").rglob("*.*")} == before


def test_a_build_that_lost_its_last_files_makes_only_those(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config())
    woven = tmp_path / "woven"
    before = manifests(woven)
    lost = [woven / "l4" / "manifest.json", next((woven / "l4").glob("*/train/epoch=0/shard-00001.parquet"))]
    for path in lost:
        path.unlink()
    result = build(make_config())
    assert manifests(woven) == before
    assert result.files_written == 1
    assert result.files_reused > 10


def test_adding_a_recipe_decodes_nothing_that_is_stored(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config())
    tars = set((tmp_path / "woven" / "frames").rglob("*.tar"))
    more = {"name": "r2", "strategy": "random", "clips_per_sample": 2, "frames_per_sample": 4}
    config = make_config()
    build(config.model_copy(update={"recipes": [*config.recipes, config.recipes[0].model_copy(update=more)]}))
    assert set((tmp_path / "woven" / "frames").rglob("*.tar")) == tars  # k = 2 lies within the embedding's 2
    assert read_manifest(open_store(str(tmp_path / "woven")), "r2").num_rows == NUM_CLIPS // 2


def test_other_settings_under_a_published_name_stop_before_any_work(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    build(make_config())
    before = sorted((tmp_path / "woven").rglob("*"))
    with pytest.raises(ConflictError, match=r"recipe l4: published with recipe\.seed = 7, this build has 8"):
        build(make_config("recipes.l4.seed=8"))
    assert sorted((tmp_path / "woven").rglob("*")) == before
    replaced = build(make_config("recipes.l4.seed=8"), BuildOptions(replace=True))
    assert replaced.recipes[1].manifest_sha256 not in str(before)
    assert json.loads(manifests(tmp_path / "woven")["l4"])["configuration"]["recipe"]["seed"] == 8


def test_a_preview_gives_way_to_the_full_build_and_shares_its_frames(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    preview = build(make_config("source.limit=9"))
    assert [recipe.rows for recipe in preview.recipes] == [9, 2]
    full = build(make_config())
    assert [recipe.rows for recipe in full.recipes] == [NUM_CLIPS, NUM_CLIPS // 4]
    fresh = build(make_config(output=tmp_path / "fresh"))
    assert [r.manifest_sha256 for r in full.recipes] == [r.manifest_sha256 for r in fresh.recipes]
    with pytest.raises(ConflictError, match=r"source\.limit"):
        build(make_config("source.limit=9"))


def test_a_dry_run_writes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    result = build(make_config(), BuildOptions(dry_run=True))
    assert not (tmp_path / "woven").exists()
    assert any("l4: at most 6 samples in 2 shards" in line for line in result.lines())


def test_the_val_split_shares_no_clip_with_train(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config("recipes.l4.split.val_fraction=0.4", "recipes.l1.split.val_fraction=0.4"))
    verify_output(open_store(str(tmp_path / "woven")))
    seen: dict[str, set[str]] = {"train": set(), "val": set()}
    for path in (tmp_path / "woven").glob("l*/*/*/epoch=0/*.parquet"):
        rows = pq.read_table(path)["clips"].to_pylist()
        seen[path.parts[-3]] |= {clip["clip_id"] for row in rows for clip in row}
    assert seen["train"]
    assert seen["val"]
    assert not seen["train"] & seen["val"]


def broken_source(rendered: Path, folder: Path) -> Path:
    """A copy of the rendered world with eight clips broken, each in its own way."""
    shutil.copytree(rendered, folder)
    with (folder / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    videos = [folder / "videos" / row["contentUrl"] for row in rows]
    videos[0].write_bytes(videos[0].read_bytes()[: videos[0].stat().st_size // 2])
    videos[1].write_bytes(b"")
    videos[2].write_bytes(b"this is a text file that somebody named .mp4\n" * 20)
    videos[3].unlink()
    rows[4]["name"] = "  "
    videos[6].write_bytes(audio_only_bytes())
    videos[7].write_bytes(without_samples(videos[7].read_bytes()))
    videos[8].write_bytes(render_video(Rendering(num_frames=3)))
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, rows[5]])  # one id twice
    return folder


def test_every_broken_clip_is_a_counted_reject_and_no_neighbour_suffers(
    make_config: MakeConfig, rendered: Path, tmp_path: Path
) -> None:
    source = broken_source(rendered, tmp_path / "broken")
    result = build(make_config("rejects.max_fraction=0.5", source=source))
    store = open_store(str(tmp_path / "woven"))
    verify_output(store)
    manifest = read_manifest(store, "l1")
    catalog, decode, filtered, weave = manifest.totals
    assert filtered.num_in == filtered.num_out == decode.num_out
    assert (catalog.num_in, catalog.duplicates) == (NUM_CLIPS + 1, 1)
    assert sum(catalog.rejected.values()) + sum(decode.rejected.values()) == 7
    assert weave.rejected == {"too_short": 1}  # 3 frames, the recipe wants 4
    assert weave.num_out == result.recipes[0].rows == NUM_CLIPS - 8
    rejects = pq.read_table(tmp_path / "woven" / f"rejects/{manifest.fingerprint}.parquet").to_pylist()
    reasons = sorted(row["reason"] for row in rejects)
    assert reasons == sorted(BROKEN_REASONS)
    card = (tmp_path / "woven" / "card.md").read_text()
    for reason in reasons:
        assert reason in card


def test_too_many_rejects_stop_the_build(make_config: MakeConfig, rendered: Path, tmp_path: Path) -> None:
    source = broken_source(rendered, tmp_path / "broken")
    with pytest.raises(RejectLimitError, match=r"rejects\.max_fraction"):
        build(make_config("rejects.max_fraction=0.1", source=source))
    assert not manifests(tmp_path / "woven")


def test_a_preview_of_broken_clips_stops_however_many_sound_ones_follow(
    make_config: MakeConfig, rendered: Path, tmp_path: Path
) -> None:
    source = broken_source(rendered, tmp_path / "broken")
    with pytest.raises(RejectLimitError, match="of 4 clips"):
        build(make_config("source.limit=4", "rejects.max_fraction=0.3", source=source))


def test_clips_too_short_for_one_recipe_stay_in_the_other(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config("recipes.l1.frames_per_sample=16", "frames.short_side_px=32"))
    config = make_config("recipes.l1.frames_per_sample=19", "rejects.max_fraction=1.0")
    with pytest.raises(SourceError, match="lower frames_per_sample"):
        build(config, BuildOptions(replace=True))  # clips have 18 frames


def test_a_source_that_changes_under_the_build_leaves_it_incomplete(
    make_config: MakeConfig, rendered: Path, tmp_path: Path
) -> None:
    source = tmp_path / "changing"
    shutil.copytree(rendered, source)
    config = make_config(source=source)
    victim = next(source.rglob("*.mp4"))

    class Meddler(InProcessExecutor):
        def run(self, step: Step) -> Iterator[Any]:
            if step.name == "decode":
                victim.write_bytes(victim.read_bytes() + b"\0" * 10)
            yield from super().run(step)

    original = victim.read_bytes()
    with pytest.raises(IncompleteError, match=f"{victim.stem} .source_changed."):
        build(config, executor=Meddler())
    victim.write_bytes(original)
    build(config)
    given_up = make_config(
        f'rejects.quarantine=["{victim.stem}"]', source=source, output=tmp_path / "given_up"
    )
    build(given_up, executor=Meddler())  # it changes again, and nobody looks
    _, decode, *_ = read_manifest(open_store(str(tmp_path / "given_up")), "l1").totals
    assert (decode.num_out, decode.filtered) == (NUM_CLIPS - 1, {"quarantined": 1})


def test_a_failing_build_shows_its_own_error_when_its_log_can_not_be_written_either(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    class StoreGoesAway(InProcessExecutor):
        def run(self, step: Step) -> Iterator[Any]:
            shutil.rmtree(tmp_path / "woven" / "runs")
            (tmp_path / "woven" / "runs").write_text("a file where a folder was")
            raise IncompleteError("the reason that matters")

    with pytest.raises(IncompleteError, match="the reason that matters"):
        build(make_config(), executor=StoreGoesAway())


def test_a_missing_catalog_is_said_before_anything_is_written(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"clips\.csv"):
        build(make_config(f"source.catalog={tmp_path}/clips.csv"))
    assert not list((tmp_path / "woven").rglob("*.parquet"))
