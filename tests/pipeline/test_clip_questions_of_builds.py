"""Clip questions through a build: answers hold for the frames as they lie in the shard."""

from __future__ import annotations

import re
from pathlib import Path

from small_builds import MakeConfig

from weave_data.pipeline import build
from weave_data.shard import read_manifest, read_row_group
from weave_data.storage import open_store
from weave_data.upkeep import explain_sample

ASKED = "recipes.1.clip_questions={types: [which, after], per_sample: 2, share: 0.7}"


def test_which_clip_is_where_its_frames_are(make_config: MakeConfig, tmp_path: Path) -> None:
    build(make_config(ASKED))
    store = open_store(str(tmp_path / "woven"))
    manifest = read_manifest(store, "l4")
    rows = [
        row
        for shard in manifest.shards
        for group in range(-(-shard.rows // manifest.row_group_rows))
        for row in read_row_group(store, shard, group).to_pylist()
    ]
    seen = set()
    for row in rows:
        turns = [turn["value"] for turn in row["conversations"]]
        assert row["text_bytes"] == sum(len(text.encode()) for text in turns)
        assert row["frame_clip"] == sorted(row["frame_clip"])
        captions = [clip["caption"].strip(" .") for clip in row["clips"]]
        if turns[0].endswith("Describe what is happening in the video."):
            seen.add("described")
            continue
        assert turns[0].startswith("<image>\n")
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            word, caption = re.search(r"(shows|after): (.*)\?$", question).groups()
            place = captions.index(caption)
            seen.add(word)
            if word == "shows":
                assert answer == f"Clip {place + 1}."
            else:
                assert answer.strip(".") == captions[place + 1]
    assert seen == {"described", "shows", "after"}
    asked = next(row for row in rows if "shows:" in row["conversations"][0]["value"])
    told = explain_sample(store, asked["sample_id"])
    assert {turn.origin for turn in told.turns} == {"recipe.clip_questions"}
