"""The same promises for recipes of several epochs and for shards that hold addresses instead of pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_remove import NOW, holding
from upkeep_builds import configuration

from weave_data.pipeline import build
from weave_data.shard import iter_rows, read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.upkeep import collect_garbage, diff_outputs, explain_sample, read_status, remove_clips

RECIPE = {
    "name": "grid",
    "strategy": "random",
    "clips_per_sample": 2,
    "frames_per_sample": 4,
    "epochs": 3,
    "pixels": "reference",
    "split": {"val_fraction": 0.3},
    "shard_rows": 4,
    "row_group_rows": 2,
}


@pytest.fixture(scope="module")
def grid(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("grid") / "woven"
    build(configuration(rendered, output, recipes=[RECIPE]))
    return output


@pytest.fixture
def copy(grid: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grid, tmp_path / "woven"))


def groups_of(output: Path) -> dict[tuple[str, int], list[str]]:
    """Sample ids by split and epoch, in reading order."""
    store = open_store(str(output), readonly=True)
    manifest = read_manifest(store, "grid")
    keys = dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards)
    return {
        key: [s.sample_id for s in iter_rows(store, manifest, split=key[0], epoch=key[1])] for key in keys
    }


def test_samples_of_every_epoch_and_split_are_explained(grid: Path) -> None:
    store = open_store(str(grid), readonly=True)
    samples = groups_of(grid)
    assert {epoch for _, epoch in samples} == {0, 1, 2}
    assert ("val", 0) in samples
    for (split, epoch), ids in samples.items():
        for position in {0, len(ids) - 1}:
            found = explain_sample(store, ids[position])
            assert (found.split, found.epoch, found.position) == (split, epoch, position)
            assert [clip.slot for clip in found.clips] in ([0, 1], [1, 0])
            assert len({clip.group_index for clip in found.clips}) == 1


def test_a_reference_build_holds_no_garbage_and_its_tars_stay(copy: Path) -> None:
    store = open_store(str(copy))
    assert collect_garbage(store, now=NOW).garbage == ()
    for path in (copy / "plans").iterdir():  # then only the shards say which frames they need
        path.unlink()
    assert {item.kind for item in collect_garbage(store, now=NOW).garbage} == set()


def test_clips_are_taken_down_and_addresses_follow_their_tars(copy: Path, grid: Path) -> None:
    store = open_store(str(copy))
    manifest = read_manifest(store, "grid")
    clips = [c.clip_id for c in next(iter_rows(store, manifest, epoch=1)).clips]
    before = {s.sample_id: s for s in iter_rows(store, manifest, epoch=2)}
    remove_clips(store, clips, now=NOW)
    assert holding(copy, clips) == set()
    verify_output(store)
    after = list(iter_rows(store, read_manifest(store, "grid"), epoch=2))
    assert [s.sample_id for s in after] == [
        name for name, s in before.items() if not {c.clip_id for c in s.clips} & set(clips)
    ]
    assert all(sample == before[sample.sample_id] for sample in after)
    for (split, epoch), ids in groups_of(copy).items():
        assert explain_sample(store, ids[-1]).position == len(ids) - 1, (split, epoch)
    found = diff_outputs(str(grid), str(copy), recipe="grid").recipes[0]
    assert (found.added, found.changed) == ({}, {})
    assert set(found.removed) == {"a clip is not woven there"}


def test_status_counts_the_shards_of_all_epochs(grid: Path) -> None:
    store = open_store(str(grid), readonly=True)
    (stage,) = (s for s in read_status(store, now=NOW).stages if s.stage == "shards of grid")
    assert (stage.done, stage.total) == (len(read_manifest(store, "grid").shards),) * 2
