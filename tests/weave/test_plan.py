"""Claims about the plan: what a sample is made of, what it is called and where it lies."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recipes import catalog, lengths, recipe, weave

from weave_data.config import RecipeConfig, SplitConfig
from weave_data.errors import AccountingError
from weave_data.records import PLAN_SCHEMA, REJECT_SCHEMA
from weave_data.tables import read_table_bytes, table_bytes
from weave_data.weave import count_woven, eligible_clips, make_plan
from weave_data.weave import plan as plan_module

SHAPES = [(1, 16), (2, 16), (4, 16), (8, 16), (16, 16), (3, 9)]


@st.composite
def recipes(draw) -> RecipeConfig:
    clips, frames = draw(st.sampled_from(SHAPES))
    return recipe(
        clips,
        frames,
        seed=draw(st.integers(0, 3)),
        remainder=draw(st.sampled_from(["drop", "keep"])),
        split=SplitConfig(val_fraction=draw(st.sampled_from([0.0, 0.3]))),
    )


def reference_id(row: dict) -> str:
    """The sample id of one row, item by item."""

    def netstring(value: object) -> bytes:
        data = str(value).encode()
        return b"%d:%b," % (len(data), data)

    content = b"".join(netstring(row[name]) for name in ("recipe", "strategy", "split", "epoch"))
    for slot, clip in enumerate(row["clips"]):
        names = ("clip_id", "key", "caption", "cluster_id", "num_frames")
        content += b"".join(netstring(clip[name]) for name in names)
        mine = [i for i, owner in zip(row["frame_index"], row["frame_clip"], strict=True) if owner == slot]
        content += netstring(" ".join(map(str, mine)))
    content += b"".join(netstring(t["from"]) + netstring(t["value"]) for t in row["conversations"])
    return hashlib.sha256(content).hexdigest()[:32]


@settings(max_examples=40, deadline=None)
@given(chosen=recipes(), num_clips=st.integers(0, 70), seed=st.integers(0, 5))
def test_every_sample_has_its_frames_captions_and_name(chosen, num_clips, seed) -> None:
    clips, frames = catalog(num_clips), lengths(num_clips, seed=seed)
    plan, groups, rejects = weave(chosen, clips, frames)
    plan.validate(full=True)
    assert plan.schema.equals(PLAN_SCHEMA)
    captions = dict(zip(clips["clip_id"].to_pylist(), clips["caption"].to_pylist(), strict=True))
    source = dict(zip(frames["clip_id"].to_pylist(), frames["source_frames"].to_pylist(), strict=True))
    seen: list[str] = []
    num_short = {"train": 0, "val": 0}
    for row in plan.to_pylist():
        ids = [clip["clip_id"] for clip in row["clips"]]
        seen += ids
        if len(ids) < chosen.clips_per_sample:
            num_short[row["split"]] += 1
        per_clip = chosen.clip_frame_counts[0]
        assert row["num_frames"] == len(row["frame_index"]) == len(ids) * per_clip
        assert row["frame_clip"] == [slot for slot in range(len(ids)) for _ in range(per_clip)]
        expected = [np.linspace(0, source[clip] - 1, per_clip).astype(int).tolist() for clip in ids]
        assert row["frame_index"] == [index for part in expected for index in part]
        assert [clip["caption"] for clip in row["clips"]] == [captions[clip] for clip in ids]
        assert [clip["num_frames"] for clip in row["clips"]] == [per_clip] * len(ids)
        human, gpt = row["conversations"]
        assert human == {"from": "human", "value": f"<image>\n{chosen.prompt}"}
        answer = "".join(captions[clip] + ". " for clip in ids).strip()
        assert gpt == {"from": "gpt", "value": answer}
        assert row["text_bytes"] == len(human["value"].encode()) + len(answer.encode())
        assert row["sample_id"] == reference_id(row)
    assert len(seen) == len(set(seen)) == groups.num_rows
    assert all(count <= (chosen.remainder == "keep") for count in num_short.values())
    short = {clip for clip, count in source.items() if count < chosen.clip_frame_counts[0]}
    assert set(rejects["clip_id"].to_pylist()) == short
    assert not short & set(seen)
    assert count_woven(chosen, num_clips=num_clips, rejects=rejects, groups=groups).is_balanced


def test_a_split_or_epoch_boundary_is_crossed_once_and_order_follows_the_hash_alone() -> None:
    chosen = recipe(2, split=SplitConfig(val_fraction=0.4))
    plan, *_ = weave(chosen, catalog(200), lengths(200, shortest=16))
    splits = plan["split"].to_pylist()
    assert splits == sorted(splits)
    assert set(splits) == {"train", "val"}
    for split in ("train", "val"):
        ids = plan.filter(pc.equal(plan["split"], split))["sample_id"].to_pylist()
        digests = [hashlib.blake2b(i.encode(), digest_size=8, key=b"shard:7").digest() for i in ids]
        places = [int.from_bytes(digest, "little") for digest in digests]
        assert places == sorted(places)


@settings(max_examples=20, deadline=None)
@given(num_groups=st.integers(0, 12), seed=st.integers(0, 9))
def test_a_plan_of_fewer_groups_is_the_larger_plan_with_rows_left_out(num_groups, seed) -> None:
    chosen, clips, frames = recipe(2, seed=seed), catalog(24), lengths(24, shortest=16)
    plan, groups, _ = weave(chosen, clips, frames)
    some = groups.filter(pc.less(groups["group_index"], num_groups))
    smaller = make_plan(chosen, clips=clips, frames=frames, groups=some)
    kept = plan.filter(pc.is_in(plan["sample_id"], value_set=smaller["sample_id"].combine_chunks()))
    assert smaller.num_rows == num_groups
    assert kept.equals(smaller)


def test_the_plan_does_not_depend_on_the_order_of_its_inputs_nor_on_blocks(monkeypatch) -> None:
    chosen, clips, frames = recipe(4), catalog(150), lengths(150)
    plan, groups, _ = weave(chosen, clips, frames)
    random = np.random.default_rng(0)
    shuffled = [table.take(random.permutation(table.num_rows)) for table in (clips, frames, groups)]
    monkeypatch.setattr(plan_module, "_BLOCK_GROUPS", 7)
    again = make_plan(chosen, clips=shuffled[0], frames=shuffled[1], groups=shuffled[2])
    assert plan.num_rows > 14
    assert table_bytes(again) == table_bytes(plan)
    assert read_table_bytes(table_bytes(plan), schema=PLAN_SCHEMA).equals(plan)


def test_neighbours_in_a_plan_are_not_neighbours_in_the_groups() -> None:
    plan, *_ = weave(recipe(1, 4), catalog(400), lengths(400, shortest=4))
    number = np.array([int(row[0]["clip_id"][1:]) for row in plan["clips"].to_pylist()])
    assert abs(np.corrcoef(number[:-1], number[1:])[0, 1]) < 0.2


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"prompt": "What is shown?"}, {"name": "other"}, {"frames_per_sample": 32}]
)
def test_settings_that_change_a_sample_change_the_plan(changes) -> None:
    clips, frames = catalog(60), lengths(60, shortest=60)
    before, *_ = weave(recipe(4), clips, frames)
    after, *_ = weave(recipe(4).model_copy(update=changes), clips, frames)
    assert before["sample_id"].to_pylist() != after["sample_id"].to_pylist()


def test_epochs_have_other_samples() -> None:
    chosen, clips, frames = recipe(2), catalog(20), lengths(20, shortest=16)
    plan, groups, _ = weave(chosen, clips, frames)
    second = make_plan(chosen, clips=clips, frames=frames, groups=groups, epoch=1)
    assert set(second["epoch"].to_pylist()) == {1}
    assert not set(second["sample_id"].to_pylist()) & set(plan["sample_id"].to_pylist())


def test_a_clip_that_is_too_short_is_rejected_with_what_to_change() -> None:
    clips = catalog(2)
    frames = lengths(2).set_column(1, "source_frames", pa.array([3, 4], pa.int32()))
    eligible, rejects = eligible_clips(clips, frames, recipe=recipe(4))
    assert eligible["clip_id"].to_pylist() == ["c00001"]
    assert rejects.schema.equals(REJECT_SCHEMA)
    assert rejects.to_pylist() == [
        {
            "stage": "weave",
            "part": "part-0",
            "recipe": "l4",
            "clip_id": "c00000",
            "key": "p/c00000.mp4",
            "reason": "too_short",
            "detail": "asked for 4 frames, the video has 3; lower recipes.l4.frames_per_sample or set "
            "short_clips: repeat-last",
        }
    ]
    assert eligible_clips(clips, frames.drop_columns("part"), recipe=recipe(4))[1]["part"][0].as_py() == ""


def test_the_remainder_is_counted_and_more_than_that_is_an_error() -> None:
    chosen, clips, frames = recipe(4), catalog(11), lengths(11, shortest=4)
    _, groups, rejects = weave(chosen, clips, frames)
    count = count_woven(chosen, num_clips=11, rejects=rejects, groups=groups)
    assert (count.num_in, count.num_out, dict(count.filtered)) == (11, 8, {"remainder": 3})
    with pytest.raises(AccountingError, match="7 left over, at most 6 can be"):
        count_woven(chosen, num_clips=15, rejects=rejects, groups=groups)
    with pytest.raises(AccountingError, match="3 left over, at most 0 can be"):
        count_woven(recipe(4, remainder="keep"), num_clips=11, rejects=rejects, groups=groups)


def test_tables_that_do_not_fit_together_are_refused() -> None:
    chosen, clips, frames = recipe(2), catalog(6), lengths(6, shortest=8)
    _, groups, _ = weave(chosen, clips, frames)

    def plan(**changes: pa.Table) -> None:
        make_plan(chosen, **{"clips": clips, "frames": frames, "groups": groups, **changes})

    with pytest.raises(AccountingError, match="1 grouped clips are not in the catalog"):
        plan(clips=clips[1:])
    with pytest.raises(AccountingError, match="neither decoded nor rejected, as 1 others"):
        plan(frames=frames[2:])
    with pytest.raises(AccountingError, match="repeat a clip id"):
        plan(groups=pa.concat_tables([groups, groups]))
    with pytest.raises(AccountingError, match="repeat a clip id"):
        plan(frames=pa.concat_tables([frames, frames]))
    with pytest.raises(AccountingError, match="a grouped clip has 2 frames, recipe l4 takes 8"):
        plan(frames=frames.set_column(1, "source_frames", pa.array([2, 9, 9, 9, 9, 9], pa.int32())))
    with pytest.raises(AccountingError, match="a group has 6 clips"):
        plan(groups=groups.set_column(0, "group_index", pa.array([0] * 6, pa.int64())))
    with pytest.raises(AccountingError, match="1 groups mix train and val"):
        plan(groups=groups.set_column(4, "split", pa.array(["train"] * 5 + ["val"])))


def test_nothing_to_weave_is_an_empty_plan() -> None:
    plan, *_ = weave(recipe(4), catalog(0), lengths(0))
    assert plan.num_rows == 0
    assert plan.schema.equals(PLAN_SCHEMA)
