"""Every frame and sentence of a sample is led back to the source."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from weave_data.errors import ConfigError, VerificationError
from weave_data.shard import iter_rows, read_manifest
from weave_data.storage import open_store
from weave_data.upkeep import explain_sample


def source_captions(rendered: Path) -> dict[str, str]:
    with (rendered / "clips.csv").open(newline="") as file:
        return {row["videoid"]: row["name"] for row in csv.DictReader(file)}


def test_every_sample_of_a_recipe_is_explained_as_its_shard_and_its_source_have_it(
    pristine: Path, rendered: Path
) -> None:
    store = open_store(str(pristine), readonly=True)
    manifest = read_manifest(store, "l4")
    captions = source_captions(rendered)
    groups = {
        row["clip_id"]: row["group_index"]
        for path in (pristine / "groups").iterdir()
        for row in pq.read_table(path).to_pylist()
        if row["cluster_id"] >= 0
    }
    for position, sample in enumerate(iter_rows(store, manifest)):
        found = explain_sample(store, sample.sample_id)
        assert (found.recipe, found.position, found.epoch) == ("l4", position, 0)
        assert [clip.clip_id for clip in found.clips] == [clip.clip_id for clip in sample.clips]
        assert tuple(i for clip in found.clips for i in clip.frame_index) == sample.frame_index
        assert tuple(s for clip in found.clips for s in clip.frame_seconds) == sample.frame_seconds
        for clip in found.clips:
            assert clip.caption_given == captions[clip.clip_id]
            assert clip.caption_from is None
            assert (rendered / "videos" / clip.source_file).stat().st_size == clip.size_bytes
            assert clip.group_index == groups[clip.clip_id]
        answer = found.turns[1]
        said = [answer.value[start:stop] for _, start, stop in answer.spans]
        assert said == [clip.caption.strip().rstrip(".") for clip in found.clips]
        assert found.turns[0].origin == "recipe.prompt"
        row = pq.read_table(pristine / found.shard).slice(found.row, 1).to_pylist()[0]
        assert row["sample_id"] == sample.sample_id
    assert position == manifest.num_rows - 1


def test_the_beginning_of_an_id_is_enough_if_only_one_sample_has_it(pristine: Path) -> None:
    store = open_store(str(pristine), readonly=True)
    sample = next(iter_rows(store, read_manifest(store, "l1")))
    found = explain_sample(store, sample.sample_id[:12])
    assert found.sample_id == sample.sample_id
    text = "\n".join(found.lines())
    assert sample.clips[0].key in text
    assert "frames.short_side_px = 64" in text
    json.dumps(found.to_json())
    with pytest.raises(ConfigError, match="no sample has an id beginning with 'zzz'"):
        explain_sample(store, "zzz")
    with pytest.raises(ConfigError, match=r"32 samples have an id beginning with ''"):
        explain_sample(store, "")


def test_a_plan_that_is_gone_is_said(woven: Path) -> None:
    for path in (woven / "plans").iterdir():
        path.unlink()
    with pytest.raises(VerificationError, match="the plan of recipe l1 is not stored; build again"):
        explain_sample(open_store(str(woven)), "a")
