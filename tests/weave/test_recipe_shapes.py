"""Claims about recipes that mix strategies, lengths, frame counts and frame policies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recipes import catalog, group, lengths, recipe, weave

from weave_data.cluster import split_of
from weave_data.config import MatchConfig, RecipeConfig
from weave_data.errors import ConfigError
from weave_data.records import SAMPLE_SCHEMA, clips_table
from weave_data.weave import (
    count_woven,
    eligible_clips,
    frame_asks,
    given_samples,
    make_plan,
    match_plan,
    match_videos,
    plan_members,
    split_keys,
)
from weave_data.weave.portions import portion_sizes

MIXED = {"clips_per_sample": {1: 1.0, 2: 1.0, 4: 2.0}, "strategy": "random", "name": "mixed"}


@settings(max_examples=60, deadline=None)
@given(
    num_clips=st.integers(0, 500),
    weights=st.dictionaries(st.integers(1, 16).filter(lambda n: 48 % n == 0), st.floats(0.1, 5), min_size=1),
)
def test_portions_are_whole_samples_in_the_ratio_of_their_weights(num_clips, weights) -> None:
    chosen = RecipeConfig(
        name="m", strategy="random", clips_per_sample={**weights, 2: 1.0}, frames_per_sample=48
    )
    sizes = portion_sizes(num_clips, chosen.portions)
    assert sum(sizes) == num_clips
    unit = sum(portion.weight * portion.num_clips for portion in chosen.portions)
    shortest = min(portion.num_clips for portion in chosen.portions)
    for size, portion in zip(sizes, chosen.portions, strict=True):
        if portion.num_clips != shortest:
            assert size % portion.num_clips == 0
            assert size // portion.num_clips == int(num_clips / unit * portion.weight + 1e-9)


def test_lengths_are_mixed_as_asked_and_every_clip_is_used() -> None:
    chosen = RecipeConfig(**MIXED)
    clips, frames = catalog(440), lengths(440, shortest=16)
    plan, groups, rejects = weave(chosen, clips, frames)
    sizes = Counter(len(row) for row in plan["clips"].to_pylist())
    assert sizes == {1: 40, 2: 40, 4: 80}
    assert set(plan["num_frames"].to_pylist()) == {16}
    assert groups.num_rows == 440
    assert count_woven(chosen, num_clips=440, rejects=rejects, groups=groups).is_balanced


def test_another_epoch_puts_other_clips_into_each_portion() -> None:
    chosen = RecipeConfig(**MIXED)
    clips, frames = catalog(440), lengths(440, shortest=16)
    singles = [
        {
            row[0]["clip_id"]
            for row in make_plan(
                chosen, clips=clips, frames=frames, groups=group(chosen, clips, epoch), epoch=epoch
            )["clips"].to_pylist()
            if len(row) == 1
        }
        for epoch in (0, 1)
    ]
    assert len(singles[0]) == len(singles[1]) == 40
    assert len(singles[0] & singles[1]) < 20


def test_each_clip_gives_the_frames_of_its_place() -> None:
    chosen = recipe(4, 16, frames_per_clip=[8, 4, 2, 2])
    plan, groups, _ = weave(chosen, catalog(80), lengths(80, shortest=8))
    slots = dict(zip(groups["clip_id"].to_pylist(), groups["slot"].to_pylist(), strict=True))
    for row in plan.to_pylist():
        assert [clip["num_frames"] for clip in row["clips"]] == [8, 4, 2, 2]
        assert [slots[clip["clip_id"]] for clip in row["clips"]] == [0, 1, 2, 3]
        assert Counter(row["frame_clip"]) == {0: 8, 1: 4, 2: 2, 3: 2}
    assert [(ask.policy, ask.count) for ask in frame_asks([chosen])] == [
        ("linspace", 2),
        ("linspace", 4),
        ("linspace", 8),
    ]


def frames_of(plan: pa.Table) -> dict[str, list[int]]:
    found = {}
    for row in plan.to_pylist():
        for slot, clip in enumerate(row["clips"]):
            mine = [
                i for i, owner in zip(row["frame_index"], row["frame_clip"], strict=True) if owner == slot
            ]
            found[clip["clip_id"]] = mine
    return found


def test_segment_centers_and_seconds_choose_their_frames() -> None:
    clips, frames = catalog(40), lengths(40, shortest=41)
    n = dict(zip(frames["clip_id"].to_pylist(), frames["source_frames"].to_pylist(), strict=True))
    plan, *_ = weave(recipe(4, 16, frame_policy="segment-center"), clips, frames)
    for clip, indices in frames_of(plan).items():
        assert indices == [int((i + 0.5) * n[clip] / 4) for i in range(4)]
    plan, *_ = weave(recipe(4, 16, frame_policy="fps", fps=1.0), clips, frames)
    assert all(indices == [0, 10, 20, 30] for indices in frames_of(plan).values())


def test_seconds_refuse_clips_that_end_too_early() -> None:
    clips, frames = catalog(40), lengths(40, shortest=16)
    chosen = recipe(4, 16, frame_policy="fps", fps=1.0)
    eligible, rejects = eligible_clips(clips, frames, recipe=chosen)
    long_enough = frames.filter(pc.greater_equal(frames["source_frames"], 31))["clip_id"]
    assert eligible["clip_id"].to_pylist() == long_enough.to_pylist()
    assert "4 frames 1 s apart" in rejects["detail"][0].as_py()


def test_random_sorted_draws_anew_each_epoch_from_the_stored_grid() -> None:
    chosen = recipe(2, 8, frame_policy="random-sorted")
    clips, frames = catalog(60), lengths(60, shortest=4, longest=200)
    eligible, _ = eligible_clips(clips, frames, recipe=chosen)
    groups = group(chosen, eligible)
    plans = [make_plan(chosen, clips=clips, frames=frames, groups=groups, epoch=epoch) for epoch in (0, 0, 1)]
    assert plans[0].equals(plans[1])
    drawn = [frames_of(plan) for plan in plans]
    n = dict(zip(frames["clip_id"].to_pylist(), frames["source_frames"].to_pylist(), strict=True))
    for clip, indices in drawn[0].items():
        grid = np.linspace(0, n[clip] - 1, min(32, n[clip])).astype(int).tolist()
        assert indices == sorted(set(indices))
        assert set(indices) <= set(grid)
    assert sum(drawn[0][clip] != drawn[2][clip] for clip in drawn[0]) > len(drawn[0]) / 2
    assert [(ask.policy, ask.count) for ask in frame_asks([chosen])] == [("linspace", 32)]


def test_repeat_last_keeps_short_clips_only_when_written_out() -> None:
    clips, frames = catalog(30), lengths(30, shortest=1, longest=6)
    plan, _, rejects = weave(recipe(1, 4, short_clips="repeat-last"), clips, frames)
    assert plan.num_rows == 30
    assert rejects.num_rows == 0
    n = dict(zip(frames["clip_id"].to_pylist(), frames["source_frames"].to_pylist(), strict=True))
    short = {clip: found for clip, found in frames_of(plan).items() if n[clip] < 4}
    assert short
    for clip, indices in short.items():
        assert indices == [min(i, n[clip] - 1) for i in range(4)]


@settings(max_examples=40, deadline=None)
@given(by=st.sampled_from(["videos", "samples", "tokens"]), share=st.floats(0.05, 1.0))
def test_a_matched_plan_is_the_longest_prefix_within_the_count(by, share) -> None:
    plan, *_ = weave(RecipeConfig(**MIXED), catalog(120), lengths(120, shortest=16))
    text = np.ceil(plan["text_bytes"].to_numpy() / 4)
    amounts = {
        "videos": np.array([len(row) for row in plan["clips"].to_pylist()]),
        "samples": np.ones(plan.num_rows),
        "tokens": plan["num_frames"].to_numpy() * 10 + text,
    }[by]
    count = max(int(amounts.sum() * share), int(amounts.max()))
    kept, num_cut = match_plan(plan, MatchConfig(by=by, count=count, tokens_per_frame=10), recipe="mixed")
    assert kept.equals(plan.slice(0, kept.num_rows))
    assert amounts[: kept.num_rows].sum() <= count
    assert kept.num_rows == plan.num_rows or amounts[: kept.num_rows + 1].sum() > count
    assert num_cut == sum(len(row) for row in plan["clips"].to_pylist()[kept.num_rows :])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 5), lots=st.integers(1, 5), strategy=st.sampled_from(["random", "clustered"]))
def test_matching_by_videos_chooses_the_same_clips_for_every_l(seed, lots, strategy) -> None:
    clips, frames = catalog(200), lengths(200, shortest=10, seed=seed)
    splits = split_of(clips["clip_id"].combine_chunks(), 0.2)
    long = {row["clip_id"] for row in frames.to_pylist() if row["source_frames"] >= 16}

    def chosen(size: int, count: int, rows: list[int] | None = None) -> set[str]:
        rule = {"by": "videos", "count": count}
        asked = recipe(size, 16, match=rule, seed=seed, **({"strategy": strategy} if size > 1 else {}))
        order = pa.array(rows or range(200), pa.int64())
        kept = match_videos(asked, clips.take(order), splits.take(order), frames)
        table = clips.take(order).append_column("split", splits.take(order)).filter(pa.array(kept))
        val = {row["clip_id"] for row in table.to_pylist() if row["split"] == "val"}
        assert len(val) == splits.to_pylist().count("val")
        return set(table["clip_id"].to_pylist()) - val

    count = 16 * lots
    first = chosen(1, count)
    assert len(first) == count
    assert first <= long
    assert all(chosen(size, count) == first for size in (2, 4, 8, 16))
    assert chosen(4, count, rows=list(range(199, -1, -1))) == first
    assert chosen(2, count // 2) < first
    assert chosen(4, 96) != {row["clip_id"] for row in clips.slice(0, 96).to_pylist()}


def test_videos_that_are_not_there_or_fill_no_sample_are_not_matched() -> None:
    clips, frames = catalog(40), lengths(40, shortest=16)
    splits = pa.array(["train"] * 40)
    asked = recipe(4, 16, match={"by": "videos", "count": 44})
    with pytest.raises(
        ConfigError, match=r"match: 44 videos asked for, the train split has 40 with 16 frames"
    ):
        match_videos(asked, clips, splits, frames)
    with pytest.raises(ValueError, match="42 videos do not fill samples of 4"):
        recipe(4, 16, match={"by": "videos", "count": 42})
    assert match_videos(recipe(4), clips, splits, frames).all()
    assert match_videos(recipe(4, 16, match={"by": "samples", "count": 2}), clips, splits, frames).all()


def test_more_than_there_is_can_not_be_matched() -> None:
    plan, *_ = weave(recipe(4), catalog(40), lengths(40, shortest=16))
    with pytest.raises(
        ConfigError, match=r"recipes.l4.match: 44 videos asked for, .* has 40; lower match.count"
    ):
        match_plan(plan, MatchConfig(by="videos", count=44), recipe="l4")
    with pytest.raises(
        ConfigError, match=r"the first sample alone takes 4 videos, match.count is 3; raise it"
    ):
        match_plan(plan, MatchConfig(by="videos", count=3), recipe="l4")


SAMPLES = pa.Table.from_pylist(
    [
        {
            "sample_key": "b",
            "clip_ids": ["i1"],
            "conversations": [{"from": "human", "value": "<image>\nWhat?"}],
        },
        {"sample_key": "a", "clip_ids": [], "conversations": [{"from": "human", "value": "Só texto"}]},
        {"sample_key": "c", "clip_ids": ["v1", "i1"], "conversations": [{"from": "gpt", "value": "x"}] * 3},
        {"sample_key": "d", "clip_ids": ["i1", "gone"], "conversations": [{"from": "gpt", "value": "y"}]},
        {"sample_key": "e", "clip_ids": ["v2"], "conversations": [{"from": "gpt", "value": "z"}]},
    ],
    schema=SAMPLE_SCHEMA,
)
MEDIA = clips_table(
    {
        "clip_id": ["i1", "v1", "v2"],
        "key": ["i1.jpg", "v1.mp4", "v2.mp4"],
        "caption": ["", "", ""],
        "size_bytes": [1, 1, 1],
        "media": ["image", "video", "video"],
    }
)
STORED = pa.table(
    {
        "clip_id": ["i1", "v1", "v2"],
        "source_frames": pa.array([1, 20, 3], pa.int32()),
        "source_seconds": pa.array([0, 2, 0.2], pa.float32()),
    }
)


def test_given_samples_keep_their_turns_and_lose_none_silently() -> None:
    chosen = RecipeConfig(name="g", strategy="given", frames_per_clip=4)
    keys = split_keys(SAMPLES)
    assert keys.to_pylist() == ["i1", "a", "v1", "i1", "v2"]
    splits = pa.array(["train"] * 5)
    found = given_samples(chosen, SAMPLES, splits, clips=MEDIA, frames=STORED)
    plan = plan_members(chosen, found.members, frames=STORED, epoch=0)
    rows = {tuple(clip["clip_id"] for clip in row["clips"]): row for row in plan.to_pylist()}
    assert set(rows) == {("i1",), (), ("v1", "i1")}
    assert rows[()]["num_frames"] == 0
    assert rows[()]["conversations"] == [{"from": "human", "value": "Só texto"}]
    assert rows[()]["text_bytes"] == len("Só texto".encode())
    assert rows["v1", "i1"]["frame_index"] == [0, 6, 12, 19, 0]
    assert rows["v1", "i1"]["frame_clip"] == [0, 0, 0, 0, 1]
    assert len(rows["v1", "i1"]["conversations"]) == 3
    assert rows["i1",]["frame_index"] == [0]
    assert found.balance.to_json() == {
        "stage": "weave g",
        "in": 5,
        "out": 3,
        "filtered": {},
        "rejected": {"clip_rejected": 2},
        "duplicates": 0,
    }
    why = {row["clip_id"]: (row["key"], row["detail"]) for row in found.rejects.to_pylist()}
    assert why["d"] == ("gone", "refused earlier; see its own reject")
    assert why["e"][0] == "v2"
    assert "asked for 4 frames, the video has 3" in why["e"][1]
