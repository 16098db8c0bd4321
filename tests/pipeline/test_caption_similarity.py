"""Quality column `caption_similarity` through builds: measured once, any number of thresholds after it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_builds import NUM_CLIPS, MakeConfig, settings
from tiny_clip import random_tiny_clip

from weave_data.config import BuildConfig, load_config
from weave_data.embed import read_vectors
from weave_data.errors import ConfigError, DeviceError
from weave_data.pipeline import BuildOptions, build, caption_stage
from weave_data.shard import read_manifest
from weave_data.storage import open_store
from weave_data.upkeep import collect_garbage, read_status, remove_clips

FILES_THAT_COST = ("embeddings", "frames", "similarities")


def config_of(
    rendered: Path, output: Path, clip: dict[str, object], **filters: dict[str, float]
) -> BuildConfig:
    values = settings(str(rendered), str(output))
    values["embedding"] = clip
    values["filters"] = filters
    return load_config(BuildConfig, values, origin="test")


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "model").mkdir()
    return random_tiny_clip(tmp_path / "model")


def files(output: Path, *rooms: str) -> dict[str, int]:
    return {
        str(path.relative_to(output)): path.stat().st_mtime_ns
        for room in rooms
        for path in sorted((output / room).rglob("*.*"))
    }


def column(output: Path) -> dict[str, float | None]:
    tables = [pq.read_table(path) for path in sorted((output / "similarities").rglob("*.parquet"))]
    return {row["clip_id"]: row["caption_similarity"] for table in tables for row in table.to_pylist()}


def vectors(output: Path, tower: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in sorted((output / "embeddings").rglob("*.parquet")):
        ids, values, notes = read_vectors(path.read_bytes())
        if notes["embedder"].endswith("text") == (tower == "text"):
            found.update(zip(ids, values, strict=True))
    return found


@pytest.mark.slow
def test_another_threshold_embeds_and_compares_nothing(
    rendered: Path, tmp_path: Path, clip: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "woven"
    first = build(config_of(rendered, output, clip))
    images, texts, found = vectors(output, "image"), vectors(output, "text"), column(output)
    assert len(found) == len(images) == len(texts) == NUM_CLIPS
    for clip_id, value in found.items():
        image, text = images[clip_id].astype(np.float64), texts[clip_id].astype(np.float64)
        expected = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
        assert value == pytest.approx(expected, abs=1e-6)
    middle = float(np.median(list(found.values())))
    told = read_manifest(open_store(str(output)), "l4").float_stages["caption_similarity"]
    assert (told["clips"], told["median"]) == (NUM_CLIPS, pytest.approx(middle, abs=1e-6))
    assert (
        f"captions and their clips (`caption_similarity`): {middle:.4f}." in (output / "card.md").read_text()
    )
    assert "<b>caption_similarity</b>" in (output / "report.html").read_text()

    stages = {
        stage.stage: (stage.done, stage.total) for stage in read_status(open_store(str(output)), now=0).stages
    }
    assert stages["embed"] == stages["embed captions"] == (4, 4)

    before = files(output, *FILES_THAT_COST)
    assert len([name for name in before if name.startswith("similarities/")]) == 4  # parts of 7 clips

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a caption was embedded again")

    monkeypatch.setattr(caption_stage, "load_text_embedder", refuse)
    monkeypatch.setattr(caption_stage, "CaptionActor", refuse)  # nor is an actor started
    again = build(
        config_of(rendered, output, clip, caption_similarity={"min": middle}), BuildOptions(replace=True)
    )
    assert files(output, *FILES_THAT_COST) == before
    assert again.files_reused >= len(before)
    manifest = read_manifest(open_store(str(output)), "l1")
    (count,) = [count for count in manifest.totals if count.stage == "filter"]
    assert count.filtered == {"below_min_caption_similarity": NUM_CLIPS // 2}
    assert "caption_similarity" in manifest.inputs
    rejects = pq.read_table(output / "rejects" / f"{manifest.fingerprint}.parquet").to_pylist()
    gone = {row["clip_id"] for row in rejects}
    assert gone == {clip_id for clip_id, value in found.items() if value < np.float32(middle)}
    assert rejects[0]["detail"].startswith("caption_similarity ")
    report = (output / "report.html").read_text()
    assert f"caption_similarity.min: {middle}" in report
    assert f"cuts off {NUM_CLIPS // 2}" in report
    assert first.recipes[0].rows == 2 * again.recipes[0].rows == NUM_CLIPS


@pytest.mark.slow
def test_a_grown_catalog_compares_its_new_parts_and_a_take_down_purges_ids(
    rendered: Path, tmp_path: Path, clip: dict[str, object]
) -> None:
    source, output = tmp_path / "source", tmp_path / "woven"
    source.mkdir()
    (source / "videos").symlink_to(rendered / "videos")
    rows = list(csv.DictReader((rendered / "clips.csv").open(newline="")))

    def list_clips(name: str, chosen: list[dict[str, str]]) -> None:
        (source / "catalog").mkdir(exist_ok=True)
        with (source / "catalog" / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)

    def config(**filters: dict[str, float]) -> BuildConfig:
        values = settings(str(source), str(output))
        values["filters"] = filters
        values["source"]["catalog"] = f"{source}/catalog"
        values["embedding"] = clip
        return load_config(BuildConfig, values, origin="test")

    list_clips("0.csv", rows[:14])
    build(config())
    before = files(output, "similarities")
    list_clips("1.csv", rows[14:])
    build(config(), BuildOptions(replace=True))
    after = files(output, "similarities")
    assert after.items() > before.items()
    assert len(column(output)) == NUM_CLIPS
    store = open_store(str(output))
    assert len(list((output / "audits").iterdir())) == 1  # of 14 clips nothing is said
    assert collect_garbage(store, now=4e9).garbage == ()
    given_up = collect_garbage(store, now=4e9, superseded=True)
    assert "similarities" not in {item.kind for item in given_up.garbage}

    victim = next(iter(column(output)))
    remove_clips(store, [victim], now=4e9)
    assert victim not in column(output)
    build(config(caption_similarity={"max": 1.0}), BuildOptions(replace=True))
    assert victim not in column(output)
    assert len(column(output)) == NUM_CLIPS - 1


def test_without_a_text_tower_card_and_report_say_so(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config())
    said = "was not measured: embedding.model none has no text tower."
    assert f"`caption_similarity` {said}" in (tmp_path / "woven" / "card.md").read_text()
    assert f"<code>caption_similarity</code> {said}" in (tmp_path / "woven" / "report.html").read_text()
    assert "<b>caption_similarity</b>" not in (tmp_path / "woven" / "report.html").read_text()
    with pytest.raises(ConfigError, match="caption_similarity: embedding.model none has no text tower"):
        make_config("filters.caption_similarity.min=0.2")


@pytest.mark.slow
def test_a_tokenizer_that_is_not_there_stops_a_build_with_a_threshold_only(
    rendered: Path, tmp_path: Path, clip: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise DeviceError("embedding.model: the tokenizer is not there")

    monkeypatch.setattr(caption_stage, "load_text_embedder", missing)
    output = tmp_path / "woven"
    build(config_of(rendered, output, clip))
    assert "the tokenizer is not there" in (output / "card.md").read_text()
    with pytest.raises(DeviceError, match="tokenizer is not there"):
        build(config_of(rendered, output, clip, caption_similarity={"min": 0.1}), BuildOptions(replace=True))
