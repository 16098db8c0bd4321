"""Ready-made samples through a whole build: images byte for byte, text only, videos, and the way back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_builds import settings
from typer.testing import CliRunner

from weave_data.cli import app
from weave_data.config import BuildConfig, load_config
from weave_data.errors import ConfigError
from weave_data.export import export_recipe
from weave_data.pipeline import build
from weave_data.records import WovenSample
from weave_data.shard import iter_rows, open_dataset, read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.upkeep import explain_sample, read_status

ASKED = "<image>\nWhat is it?"


def configure(source: dict[str, Any], output: Path, *recipes: dict[str, Any], **sections: Any) -> BuildConfig:
    common = {"strategy": "given", "shard_rows": 8, "row_group_rows": 4}
    values = settings("nowhere", str(output)) | {
        "source": {"kind": "conversations", "part_clips": 4, **source},
        "recipes": [common | item for item in recipes],
        **sections,
    }
    return load_config(BuildConfig, values, origin="test")


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def read(output: Path, recipe: str) -> dict[str, WovenSample]:
    store = open_store(str(output))
    rows = iter_rows(store, read_manifest(store, recipe))
    return {sample.conversations[-1].value: sample for sample in rows}


@pytest.fixture
def records(rendered: Path, tmp_path: Path) -> dict[str, Any]:
    """Two images, one that is none, a text, and a video; the settings of their source."""
    media = tmp_path / "media"
    media.mkdir()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(media / "a.jpg", quality=71)
    Image.radial_gradient("L").resize((33, 21)).save(media / "b.png")
    (media / "c.jpg").write_bytes(b"not a picture")
    video = sorted((rendered / "videos").rglob("*.mp4"))[0]
    (media / "v.mp4").write_bytes(video.read_bytes())
    rows = [
        {"id": "1", "image": "a.jpg", "conversations": turns(ASKED, "a") + turns("And?", "more of a")},
        {"id": "2", "image": "b.png", "conversations": turns(ASKED, "b")},
        {"id": "3", "image": "c.jpg", "conversations": turns(ASKED, "c")},
        {"id": "4", "conversations": turns("How much is one and one?", "two")},
        {"id": "5", "video": "v.mp4", "conversations": turns(ASKED, "v")},
        {"id": "6", "image": "gone.jpg", "conversations": turns(ASKED, "gone")},
    ]
    (tmp_path / "chat.json").write_text(json.dumps(rows))
    return {"catalog": str(tmp_path / "chat.json"), "videos": str(media)}


def test_images_texts_and_videos_become_samples_and_nothing_is_lost(
    records: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {"name": "mix", "frames_per_clip": 4}
    build(configure(records, tmp_path / "w", recipe, rejects={"max_fraction": 0.9}))
    verify_output(open_store(str(tmp_path / "w")))
    samples = read(tmp_path / "w", "mix")
    assert set(samples) == {"more of a", "b", "two", "v"}
    assert [samples[name].num_frames for name in ("more of a", "b", "two", "v")] == [1, 1, 0, 4]
    assert samples["more of a"].frames == ((tmp_path / "media" / "a.jpg").read_bytes(),)
    assert samples["b"].frames == ((tmp_path / "media" / "b.png").read_bytes(),)
    assert (samples["b"].width, samples["b"].height) == (33, 21)
    assert len(samples["more of a"].conversations) == 4
    totals = {count.stage: count for count in read_manifest(open_store(str(tmp_path / "w")), "mix").totals}
    assert all(count.is_balanced for count in totals.values())
    assert totals["catalog"].rejected == {"missing": 1}
    assert totals["decode"].rejected == {"not_an_image": 1}
    assert totals["weave mix"].rejected == {"clip_rejected": 1}


def test_records_keep_their_own_ids_in_exports_and_explanations(
    records: dict[str, Any], tmp_path: Path
) -> None:
    chat = Path(records["catalog"])
    rows = json.loads(chat.read_text())
    again = [  # LLaVA's files have one id several times, and equal texts under two ids
        {"id": "2", "image": "a.jpg", "conversations": turns(ASKED, "a second 2")},
        {"id": "9#0123abcd", "conversations": turns("How much is one and one?", "two")},
    ]
    chat.write_text(json.dumps([*rows, *again]))
    output = tmp_path / "w"
    build(configure(records, output, {"name": "mix", "frames_per_clip": 4}, rejects={"max_fraction": 0.9}))
    wanted = ["1", "2", "2", "4", "5", "9#0123abcd"]
    dataset = open_dataset(f"{output}/mix")
    for form, field in (("videoweave", "id"), ("sharegpt", "id"), ("webdataset", "record_id")):
        target = tmp_path / form
        report = export_recipe(dataset, open_store(str(target)), form)
        if form == "webdataset":
            found = []
            for path in target.glob("*.tar"):
                with tarfile.open(path) as tar:
                    found += [json.load(tar.extractfile(name)) for name in tar.getnames() if "json" in name]
        else:
            found = json.loads((target / report.files[0][0]).read_text())
        assert sorted(row[field] for row in found) == wanted, form
        if form == "videoweave":
            said = {(row["id"], row["conversations"][-1]["value"]) for row in found}
            assert {("2", "b"), ("2", "a second 2"), ("9#0123abcd", "two")} <= said
    second = next(
        row for row in iter_rows(dataset.store, dataset.manifest) if row.conversations[-1].value == "b"
    )
    told = explain_sample(open_store(str(output)), second.sample_id)
    assert told.record_id == "2"
    assert "  record '2' of the source" in told.lines()
    verify_output(open_store(str(output)))


def test_conversations_that_nothing_uses_are_told(tmp_path: Path) -> None:
    talk = {"images": [], "user": "Hi", "assistant": "Hello"}
    rows = [{"id": "train-1", "conversations": [talk] * 4}, {"id": "train-2", "conversations": [talk]}]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"catalog": str(tmp_path / "chat.jsonl"), "videos": str(tmp_path)}
    result = build(configure(source, tmp_path / "w", {"name": "mix"}))
    said = "3 conversations beyond the first of their records"
    assert f"{said} are not used" in list(result.lines())
    card = (tmp_path / "w" / "card.md").read_text()
    assert "3 conversations of the source stand behind the first one of their record; no sample" in card
    shown = CliRunner().invoke(app, ["status", str(tmp_path / "w")])
    assert f"not used: {said}" in " ".join(shown.output.split())
    assert read_status(open_store(str(tmp_path / "w")), now=0.0).unused == 3


def test_clips_without_captions_are_not_woven_by_other_strategies(
    records: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {"name": "one", "strategy": "single", "frames_per_sample": 1}
    build(configure(records, tmp_path / "w", recipe, rejects={"max_fraction": 0.9}))
    woven = read_manifest(open_store(str(tmp_path / "w")), "one").totals[-1]
    assert (woven.num_out, woven.rejected) == (2, {"empty_caption": 1})


def test_a_preview_leaves_out_samples_of_clips_beyond_it(records: dict[str, Any], tmp_path: Path) -> None:
    recipe = {"name": "mix", "frames_per_clip": 4}
    config = configure(records | {"limit": 2}, tmp_path / "w", recipe, rejects={"max_fraction": 0.9})
    build(config)
    woven = read_manifest(open_store(str(tmp_path / "w")), "mix").totals[-1]
    assert woven.filtered == {"beyond_limit": 2}
    assert woven.num_out == 3


def test_frames_of_a_video_are_agreed_with_its_records(records: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipes.mix: takes 16 frames .* source.frames_per_video is 4"):
        configure(records | {"frames_per_video": 4}, tmp_path / "w", {"name": "mix"})


def test_an_exported_tree_is_imported_with_the_same_pixels_texts_and_order(
    rendered: Path, tmp_path: Path
) -> None:
    values = settings(str(rendered), str(tmp_path / "w"))
    values["frames"] = {"short_side_px": 64, "format": "png"}
    values["recipes"] = [
        {
            "name": "l4",
            "strategy": "random",
            "clips_per_sample": 4,
            "frames_per_sample": 8,
            "shard_rows": 4,
            "row_group_rows": 2,
        }
    ]
    build(load_config(BuildConfig, values, origin="test"))
    dataset = open_dataset(str(tmp_path / "w" / "l4"))
    export_recipe(dataset, open_store(str(tmp_path / "tree")), "videoweave")
    [listed] = (tmp_path / "tree").glob("l4-*.json")
    source = {"catalog": str(listed), "videos": str(tmp_path / "tree" / "frames")}
    build(configure(source, tmp_path / "back", {"name": "l4"}))
    there, back = read(tmp_path / "w", "l4"), read(tmp_path / "back", "l4")
    assert there.keys() == back.keys()
    assert len(there) == 6
    for text, sample in there.items():
        assert back[text].frames == sample.frames
        assert back[text].conversations == sample.conversations
        shown = list(dict.fromkeys(clip.key.rpartition("/")[0] for clip in back[text].clips))
        assert [name.rpartition("/")[2] for name in shown] == [clip.clip_id for clip in sample.clips]
