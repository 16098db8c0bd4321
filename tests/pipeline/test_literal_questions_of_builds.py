"""VideoWeave's question files through a build: four samples for every matched video."""

from __future__ import annotations

import csv
from pathlib import Path

from small_builds import settings

from weave_data.config import BuildConfig, load_config
from weave_data.config.captions import QUESTION_TYPES
from weave_data.pipeline import build
from weave_data.shard import read_manifest, read_row_group
from weave_data.storage import open_store


def test_four_samples_for_every_matched_video(rendered: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((rendered / "clips.csv").open(newline="")))
    ids = [row["videoid"] for row in rows[:5]]
    (tmp_path / "qna").mkdir()
    for kind in QUESTION_TYPES:
        records = [
            {
                "question": f"Which {kind}?",
                "answer": f"{kind} of {name}",
                "file_paths": f"https://example.net/videos/{name}/preview/a.mp4",
            }
            for name in [*ids, "no-such-video"]
        ]
        (tmp_path / "qna" / f"video_questions_{kind}_n=10-start=0.txt").write_text(f"{records}\n")
    values = settings(str(rendered), str(tmp_path / "woven"))
    values["recipes"] = [
        {
            "name": "qa",
            "strategy": "given",
            "frames_per_clip": 2,
            "questions": {"file": f"{tmp_path}/qna"},
        }
    ]
    build(load_config(BuildConfig, values, origin="test"))
    store = open_store(str(tmp_path / "woven"))
    [shard] = read_manifest(store, "qa").shards
    samples = [
        row
        for group in range(-(-shard.rows // 16))
        for row in read_row_group(store, shard, group).to_pylist()
    ]
    said = {
        (row["clips"][0]["clip_id"], *(turn["value"] for turn in row["conversations"])) for row in samples
    }
    assert said == {
        (name, f"<image>\nWhich {kind}?", f"{kind} of {name}") for name in ids for kind in QUESTION_TYPES
    }
    assert len(samples) == 4 * len(ids)
