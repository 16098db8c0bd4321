from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from experiments.rendered_world.single_clip_qa import ask_clip, write_asked_clips
from experiments.rendered_world.training_set import write_clips
from weave_data.config import BuildConfig, load_config, read_yaml
from weave_data.pipeline import build
from weave_data.records import WovenSample
from weave_data.shard import iter_rows, read_manifest
from weave_data.storage import open_source, open_store
from weave_train.evaluate.tasks.plain import read_plain
from weave_train.evaluate.tasks.reading import TaskFiles

ROOT = Path(__file__).resolve().parents[2] / "experiments" / "rendered_world"
NUM_CLIPS = 32


def ignore() -> None:
    pass


def settings(name: str) -> dict:
    path = ROOT / name
    return read_yaml(path.read_text(encoding="utf-8"), origin=str(path))


def arms() -> BuildConfig:
    return load_config(BuildConfig, settings("arms.yaml"), origin="arms.yaml")


def test_every_arm_shows_as_many_frames_of_the_same_clips() -> None:
    for recipe in arms().recipes:
        assert recipe.match is not None
        assert (recipe.match.by, recipe.match.count) == ("videos", 10_000)
        (portion,) = recipe.portions
        num_samples = recipe.epochs * recipe.match.count // portion.num_clips
        assert num_samples * sum(portion.frames) == 160_000, recipe.name
        assert recipe.frame_policy == "linspace"


@pytest.fixture(scope="module")
def woven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[WovenSample]]:
    """Rows of every epoch of some arms, built over few clips."""
    root = tmp_path_factory.mktemp("world")
    write_clips(root / "clips", num_clips=NUM_CLIPS, seed=1, notify=ignore)
    values = settings("arms.yaml")
    values["source"] |= {"catalog": f"{root}/clips/clips.csv", "videos": f"{root}/clips/videos"}
    values |= {"output": f"{root}/woven", "execution": {"in_process": True}}
    kept = ("l1", "woven-4", "unwoven-4", "woven-16", "unwoven-16", "shuffled-4", "enriched-4", "same-clip-4")
    values["recipes"] = [recipe for recipe in values["recipes"] if recipe["name"] in kept]
    for recipe in values["recipes"]:
        recipe["match"]["count"] = NUM_CLIPS
        if "captions" in recipe:
            recipe["captions"]["file"] = f"{root}/clips/{Path(recipe['captions']['file']).name}"
    build(load_config(BuildConfig, values, origin="arms.yaml"))
    store = open_store(f"{root}/woven", readonly=True)
    found = {}
    for recipe in values["recipes"]:
        manifest = read_manifest(store, recipe["name"])
        epochs = range(recipe.get("epochs", 1))
        found[recipe["name"]] = [row for epoch in epochs for row in iter_rows(store, manifest, epoch=epoch)]
    return found


def pieces(rows: list[WovenSample]) -> Counter:
    """Which frames of which clip are shown, how often, with which caption."""
    found: Counter = Counter()
    for row in rows:
        for number, clip in enumerate(row.clips):
            frames = tuple(
                index for place, index in zip(row.frame_clip, row.frame_index, strict=True) if place == number
            )
            found[clip.clip_id, clip.caption, frames] += 1
    return found


@pytest.mark.parametrize("clips", [4, 16])
def test_unwoven_shows_the_same_clips_frames_and_captions_as_woven(woven, clips) -> None:
    together, apart = woven[f"woven-{clips}"], woven[f"unwoven-{clips}"]
    assert pieces(together) == pieces(apart)
    assert len(apart) == clips * len(together) == clips * NUM_CLIPS
    assert {row.num_frames for row in together} == {16}
    assert {row.num_frames for row in apart} == {16 // clips}
    assert all(len(row.clips) == 1 for row in apart)
    assert {clip for clip, _, _ in pieces(woven["l1"])} == {clip for clip, _, _ in pieces(together)}


def told(row: WovenSample) -> list[str]:
    return row.conversations[1].value.rstrip(".").split(". ")


def test_shuffled_captions_stand_over_the_samples_of_woven(woven) -> None:
    def groups(name: str) -> Counter:
        return Counter(tuple(clip.clip_id for clip in row.clips) for row in woven[name])

    assert groups("shuffled-4") == groups("woven-4") == groups("enriched-4")
    orders = [told(row) == [clip.caption for clip in row.clips] for row in woven["shuffled-4"]]
    assert all(sorted(told(row)) == sorted(clip.caption for clip in row.clips) for row in woven["shuffled-4"])
    assert 0 <= sum(orders) < len(orders) / 2


def test_same_clip_shows_one_clip_and_says_its_caption_four_times(woven) -> None:
    captions = {row.clips[0].clip_id: row.clips[0].caption for row in woven["l1"]}
    for row in woven["same-clip-4"]:
        (clip,) = row.clips
        assert told(row) == [captions[clip.clip_id]] * 4
        assert row.num_frames == 16


def test_the_shared_stage_is_one_clip_and_one_question_a_sample(tmp_path: Path) -> None:
    write_asked_clips(tmp_path / "asked", num_clips=7, seed=2, notify=ignore)
    values = settings("asked.yaml")
    values["source"] |= {
        "catalog": f"{tmp_path}/asked/conversations.jsonl",
        "videos": f"{tmp_path}/asked",
    }
    values |= {"output": f"{tmp_path}/woven", "execution": {"in_process": True}}
    build(load_config(BuildConfig, values, origin="asked.yaml"))
    store = open_store(f"{tmp_path}/woven", readonly=True)
    rows = list(iter_rows(store, read_manifest(store, "asked")))
    assert len(rows) == 7
    assert all(len(row.clips) == 1 and row.num_frames == 16 and len(row.conversations) == 2 for row in rows)


def test_unseen_single_clips_can_be_asked_about_with_three_texts_to_choose_from(tmp_path: Path) -> None:
    write_asked_clips(tmp_path, num_clips=14, seed=3, notify=ignore)
    taught = [json.loads(line) for line in (tmp_path / "conversations.jsonl").read_text().splitlines()]
    asked = read_plain(TaskFiles(open_source(str(tmp_path))))
    assert len(asked.questions) == 14
    assert not asked.lost
    for question, row in zip(asked.questions, taught, strict=True):
        told, answer = (turn["value"] for turn in row["conversations"])
        assert question.prompt == told, "as trained: no options, no letters"
        assert len(set(question.options)) == 3
        assert question.options[question.answer_index or 0] == answer


def test_other_things_of_a_clip_are_among_the_texts_to_choose_from(tmp_path: Path) -> None:
    write_asked_clips(tmp_path, num_clips=70, seed=3, notify=ignore)
    rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    num_things = 0
    for index, row in enumerate(rows):
        seen = {f"a {event.thing.name}" for _, event in ask_clip(3, index).film.events}
        if row["options"][row["answer"]] in seen:
            assert len(seen & set(row["options"])) == min(3, len(seen))
            num_things += len(seen) > 1
    assert num_things > 15
