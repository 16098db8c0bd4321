"""Every way to weave, through a whole build: epochs, mixtures, texts, filters, ready-made samples."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_builds import NUM_CLIPS, settings

from weave_data.config import BuildConfig, load_build_config, load_config
from weave_data.errors import ConfigError, ConflictError
from weave_data.pipeline import build
from weave_data.records import WovenSample
from weave_data.shard import Manifest, iter_rows, read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.tables import read_table_bytes


def configure(rendered: Path, output: Path, *recipes: dict[str, Any], **sections: Any) -> BuildConfig:
    common = {"shard_rows": 8, "row_group_rows": 4, "frames_per_sample": 8}
    values = (
        settings(str(rendered), str(output)) | {"recipes": [common | item for item in recipes]} | sections
    )
    return load_config(BuildConfig, values, origin="test")


def read(output: Path, recipe: str, *, split: str = "train", epoch: int = 0) -> list[WovenSample]:
    store = open_store(str(output))
    return list(iter_rows(store, read_manifest(store, recipe), split=split, epoch=epoch))


def manifest(output: Path, recipe: str) -> Manifest:
    return read_manifest(open_store(str(output)), recipe)


def groups_of(samples: list[WovenSample]) -> set[tuple[str, ...]]:
    return {tuple(clip.clip_id for clip in sample.clips) for sample in samples}


def test_epochs_weave_train_anew_and_leave_val_as_it_is(rendered: Path, tmp_path: Path) -> None:
    recipe = {"name": "r", "strategy": "random", "clips_per_sample": 2, "epochs": 3}
    build(configure(rendered, tmp_path / "w", recipe | {"split": {"val_last": 6}}))
    verify_output(open_store(str(tmp_path / "w")))
    found = manifest(tmp_path / "w", "r")
    assert {(shard.split, shard.epoch) for shard in found.shards} == {
        ("train", 0), ("train", 1), ("train", 2), ("val", 0),
    }  # fmt: skip
    epochs = [groups_of(read(tmp_path / "w", "r", epoch=epoch)) for epoch in range(3)]
    assert [len(groups) for groups in epochs] == [10, 10, 10]
    clips = [{clip for group in groups for clip in group} for groups in epochs]
    assert clips[0] == clips[1] == clips[2]
    pairs = [{frozenset(group) for group in groups} for groups in epochs]
    assert len(pairs[0] & pairs[1]) <= 3
    assert len(pairs[1] & pairs[2]) <= 3
    val = groups_of(read(tmp_path / "w", "r", split="val"))
    assert {clip for group in val for clip in group} & clips[0] == set()
    stages = [count.stage for count in found.totals]
    assert stages == ["catalog", "decode", "filter", "weave r", "weave r epoch 1", "weave r epoch 2"]
    assert found.totals[-1].filtered == {"val_split": 6}
    assert found.float_stages["leakage"] == {
        "num_val": 6, "in_both": 0, "near_duplicates": 0, "exact_duplicates": 0,
    }  # fmt: skip


def test_copies_of_val_clips_in_train_are_counted_or_dropped(rendered: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(rendered, source)
    with (source / "clips.csv").open(newline="") as file:
        *rows, last = csv.DictReader(file)
    original, copied = rows[0], f"{last['videoid']}.mp4"
    paths = {path.name: path for path in source.rglob("*.mp4")}
    paths[copied].write_bytes(paths[f"{original['videoid']}.mp4"].read_bytes())
    recipe = {"name": "r", "strategy": "random", "clips_per_sample": 2, "split": {"val_last": 6}}
    build(configure(source, tmp_path / "told", recipe))
    assert manifest(tmp_path / "told", "r").float_stages["leakage"]["exact_duplicates"] == 1
    build(configure(source, tmp_path / "dropped", recipe, filters={"val_leaks": "drop"}))
    found = manifest(tmp_path / "dropped", "r")
    assert found.float_stages["leakage"]["exact_duplicates"] == 0
    assert found.totals[-1].filtered == {"remainder": 1, "val_leak": 1}
    store = open_store(str(tmp_path / "dropped"))
    listed = read_table_bytes(store.get(f"rejects/{found.fingerprint}.parquet")).to_pylist()
    assert [row["clip_id"] for row in listed] == [last["videoid"]]


def test_strategies_and_lengths_are_mixed_and_a_later_recipe_decodes_nothing(
    rendered: Path, tmp_path: Path
) -> None:
    plain = {"name": "l1", "strategy": "single", "frames_per_sample": 16, "short_clips": "repeat-last"}
    build(configure(rendered, tmp_path / "w", plain))
    tars = sorted(path for path in (tmp_path / "w" / "frames").rglob("*.tar"))
    mixed = {
        "name": "mixed",
        "strategy": {"random": 1, "clustered": 1, "diverse": 1},
        "clips_per_sample": {2: 1, 4: 1},
        "frames_per_sample": 16,
        "frame_policy": "linspace",
        "short_clips": "repeat-last",
        "remainder": "keep",
    }
    result = build(
        configure(rendered, tmp_path / "w", plain, mixed, embedding={"model": "none", "frames_per_clip": 1})
    )
    assert result.files_reused > 0
    again = sorted(path for path in (tmp_path / "w" / "frames").rglob("*.tar"))
    added = set(again) - set(tars)
    samples = read(tmp_path / "w", "mixed")
    assert {sample.strategy for sample in samples} == {"random", "clustered", "diverse"}
    assert {len(sample.clips) for sample in samples} >= {2, 4}
    assert sum(len(sample.clips) for sample in samples) == NUM_CLIPS
    # k = 8 is the only frame count that k = 16 does not hold; k = 4 and the embedding's frame are there
    assert {sample.num_frames for sample in samples if len(sample.clips) == 4} == {16}
    assert len(added) <= len(tars)
    verify_output(open_store(str(tmp_path / "w")))


def test_l4_after_l1_decodes_no_frame(rendered: Path, tmp_path: Path) -> None:
    l1 = {"name": "l1", "strategy": "single", "frames_per_sample": 16, "short_clips": "repeat-last"}
    l4 = {"name": "l4", "strategy": "random", "clips_per_sample": 4, "frames_per_sample": 16}
    build(configure(rendered, tmp_path / "w", l1))
    before = sorted((tmp_path / "w" / "frames").rglob("*"))
    build(configure(rendered, tmp_path / "w", l1, l4))
    assert sorted((tmp_path / "w" / "frames").rglob("*")) == before


def test_matched_recipes_show_the_same_amount_and_samples_are_prefixes(
    rendered: Path, tmp_path: Path
) -> None:
    base = {"strategy": "random", "clips_per_sample": 2}
    build(
        configure(
            rendered,
            tmp_path / "w",
            {"name": "all", **base},
            {"name": "videos", **base, "match": {"by": "videos", "count": 12}},
            {"name": "samples", **base, "match": {"by": "samples", "count": 4}, "pixels": "reference"},
        )
    )
    every, videos, samples = (read(tmp_path / "w", name) for name in ("all", "videos", "samples"))
    assert (len(every), len(videos), len(samples)) == (13, 6, 4)
    assert groups_of(samples) <= groups_of(every)
    assert manifest(tmp_path / "w", "videos").totals[-1].filtered == {"beyond_match": 14}
    assert all(len(sample.frames) == 8 for sample in samples)
    assert set(samples[0].frames) <= {frame for sample in every for frame in sample.frames}
    verify_output(open_store(str(tmp_path / "w")))


def test_texts_are_known_by_content_and_reach_every_row(rendered: Path, tmp_path: Path) -> None:
    rows = [{"clip_id": clip.clips[0].clip_id} for clip in _singles(rendered, tmp_path / "plain")]
    listed = tmp_path / "captions.json"
    listed.write_text(json.dumps([row | {"caption": f"new {row['clip_id']}"} for row in rows[:-2]]))
    recipe = {
        "name": "t",
        "strategy": "random",
        "clips_per_sample": 2,
        "caption_join": "timed",
        "prompts": {"choices": ["What happens?", "Tell the story."]},
        "captions": {"file": str(listed), "missing": "drop"},
    }
    build(configure(rendered, tmp_path / "w", recipe))
    samples = read(tmp_path / "w", "t")
    assert len(samples) == (NUM_CLIPS - 2) // 2
    assert {sample.conversations[0].value for sample in samples} == {
        f"<image>\n{prompt}"
        for prompt in ("Describe what is happening in the video.", "What happens?", "Tell the story.")
    }
    for sample in samples:
        first, second = sample.conversations[1].value.split("\n")
        assert re.fullmatch(rf"Clip 1 \(0\.0-1\.\d s\): [Nn]ew {sample.clips[0].clip_id}\.", first)
        assert f"{sample.clips[1].clip_id}" in second
    found = manifest(tmp_path / "w", "t")
    assert found.totals[-1].rejected == {"no_new_caption": 2}
    moved = tmp_path / "elsewhere.json"
    moved.write_bytes(listed.read_bytes())
    again = build(
        configure(rendered, tmp_path / "w", recipe | {"captions": {"file": str(moved), "missing": "drop"}})
    )
    assert again.files_written == 0
    moved.write_text(listed.read_text().replace("new ", "newer "))
    with pytest.raises(ConflictError, match="recipe.captions.sha256"):
        build(
            configure(
                rendered, tmp_path / "w", recipe | {"captions": {"file": str(moved), "missing": "drop"}}
            )
        )


def _singles(rendered: Path, output: Path) -> list[WovenSample]:
    build(configure(rendered, output, {"name": "l1", "strategy": "single", "frames_per_sample": 4}))
    return read(output, "l1")


def test_questions_are_samples_of_their_own(rendered: Path, tmp_path: Path) -> None:
    ids = sorted(sample.clips[0].clip_id for sample in _singles(rendered, tmp_path / "plain"))
    asked = [
        {"clip_id": clip, "type": kind, "question": f"Which {kind}?", "answer": f"{kind} of {clip}"}
        for clip in ids[:5]
        for kind in ("action", "object", "scene", "temporal")
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in asked))
    recipe = {
        "name": "qa",
        "strategy": "given",
        "frames_per_clip": 4,
        "questions": {"file": str(tmp_path / "q.jsonl")},
    }
    build(configure(rendered, tmp_path / "w", recipe))
    samples = read(tmp_path / "w", "qa")
    assert len(samples) == 20
    said = {(s.conversations[0].value, s.conversations[1].value) for s in samples}
    assert ("<image>\nWhich scene?", f"scene of {ids[2]}") in said
    assert all(sample.num_frames == 4 for sample in samples)


def test_filters_take_clips_out_before_any_recipe_and_decode_nothing_again(
    rendered: Path, tmp_path: Path
) -> None:
    recipe = {"name": "l2", "strategy": "clustered", "clips_per_sample": 2}
    build(configure(rendered, tmp_path / "w", recipe))
    frames = sorted((tmp_path / "w" / "frames").rglob("*"))
    values = sorted(len(c.caption) for s in read(tmp_path / "w", "l2") for c in s.clips)
    limit = values[len(values) // 2]
    with pytest.raises(ConflictError, match="filters.caption_chars"):
        build(configure(rendered, tmp_path / "w", recipe, filters={"caption_chars": {"max": limit}}))
    shorter = recipe | {"name": "short"}
    config = configure(
        rendered,
        tmp_path / "w",
        shorter,
        filters={"caption_chars": {"max": limit}, "near_duplicates": 0.9999},
    )
    build(config)
    assert sorted((tmp_path / "w" / "frames").rglob("*")) == frames
    samples = read(tmp_path / "w", "short")
    assert all(len(clip.caption) <= limit for sample in samples for clip in sample.clips)
    stages = [count.stage for count in manifest(tmp_path / "w", "short").totals]
    assert stages == ["catalog", "decode", "filter", "near_duplicates", "weave short"]
    assert all(count.is_balanced for count in manifest(tmp_path / "w", "short").totals)


def test_given_samples_are_asked_of_a_source_that_has_some(rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source.kind webvid gives clips"):
        build(configure(rendered, tmp_path / "w", {"name": "g", "strategy": "given"}))


def test_the_papers_grid_is_one_build(rendered: Path, tmp_path: Path) -> None:
    """The example, with counts that fit a small world."""
    grid = load_build_config(Path(__file__).parents[2] / "examples" / "paper-grid.yaml")
    recipes = []
    for recipe in grid.recipes:
        values = recipe.model_dump(mode="json", exclude_unset=True)
        count = 16 if recipe.name.startswith("fig1") else 1
        recipes.append(
            values | {"frames_per_sample": 16, "match": {"by": values["match"]["by"], "count": count}}
        )
    values = {"shard_rows": 8, "row_group_rows": 4, "short_clips": "repeat-last"}
    build(configure(rendered, tmp_path / "w", *({**values, **item} for item in recipes)))
    store = open_store(str(tmp_path / "w"))
    assert {name: read_manifest(store, name).num_rows for name in (r["name"] for r in recipes)} == {
        "fig1-l1": 16, "fig1-l2": 8, "fig1-l4": 4, "fig1-l8": 2, "fig1-l16": 1,
        "fig2-l1": 1, "fig2-l2": 1, "fig2-l4": 1, "fig2-l8": 1, "fig2-l16": 1, "fig3-l8": 1,
    }  # fmt: skip
    shown = {
        name: frozenset(clip.clip_id for sample in read(tmp_path / "w", name) for clip in sample.clips)
        for name in (f"fig1-l{clips}" for clips in (1, 2, 4, 8, 16))
    }
    assert len(set(shown.values())) == 1, "figure 1 shows the same videos at every L"
    assert len(shown["fig1-l16"]) == 16
    shards = sum(path.stat().st_size for path in (tmp_path / "w").glob("fig*/**/*.parquet"))
    tars = sum(path.stat().st_size for path in (tmp_path / "w" / "frames").rglob("*.tar"))
    assert shards < tars
    verify_output(store)
