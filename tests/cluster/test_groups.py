"""Claims about which clips share a group."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from clouds import cloud, names
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.cluster import Grouping, group_splits, mean_pair_cosine, split_of
from weave_data.errors import AccountingError, VerificationError
from weave_data.records import GROUP_SCHEMA

STRATEGIES = ("random", "clustered", "diverse")


def group(clip_ids, vectors, *, strategy="clustered", clips=4, remainder="drop", **others) -> Grouping:
    return group_splits(
        clip_ids,
        vectors,
        splits=pa.repeat("train", len(clip_ids)),
        strategy=strategy,
        clips_per_group=clips,
        remainder=remainder,
        **{"seed": 7, **others},
    )


def members(table: pa.Table) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["group_index"], []).append(row["clip_id"])
        assert row["slot"] == len(groups[row["group_index"]]) - 1
    assert list(groups) == list(range(len(groups)))
    return list(groups.values())


@settings(max_examples=40, deadline=None)
@given(
    num_clips=st.integers(0, 90),
    clips=st.integers(2, 9),
    strategy=st.sampled_from(STRATEGIES),
    remainder=st.sampled_from(["drop", "keep"]),
    seed=st.integers(0, 3),
)
def test_groups_partition_the_clips(num_clips, clips, strategy, remainder, seed) -> None:
    clip_ids = names(num_clips)
    vectors = cloud(num_clips, dim=8, num_clusters=4, seed=seed)
    table, dropped, _ = group(
        clip_ids, vectors, strategy=strategy, clips=clips, seed=seed, remainder=remainder
    )
    table.validate(full=True)
    assert table.schema.equals(GROUP_SCHEMA)
    found = members(table)
    everyone = [clip for ids in found for clip in ids] + dropped.to_pylist()
    assert sorted(everyone) == sorted(clip_ids.to_pylist())
    short = num_clips % clips
    expected = [clips] * (num_clips // clips) + ([short] if short and remainder == "keep" else [])
    assert [len(ids) for ids in found] == expected
    assert len(dropped) == (short if remainder == "drop" else 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_do_not_depend_on_the_order_of_the_clips(strategy) -> None:
    clip_ids, vectors = names(300), cloud(300)
    order = np.random.default_rng(3).permutation(300)
    here = group(clip_ids, vectors, strategy=strategy)
    there = group(pa.chunked_array([clip_ids.take(pa.array(order))]), vectors[order], strategy=strategy)
    assert here.table.equals(there.table)
    assert here.dropped.equals(there.dropped)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_decides_the_groups(strategy) -> None:
    clip_ids, vectors = names(300), cloud(300)
    first, again, other = (group(clip_ids, vectors, strategy=strategy, seed=seed) for seed in (1, 1, 2))
    assert first.table.equals(again.table)
    assert {frozenset(ids) for ids in members(first.table)} != {
        frozenset(ids) for ids in members(other.table)
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_epoch_has_groups_of_its_own(strategy) -> None:
    clip_ids, vectors = names(300), cloud(300)
    epochs = [group(clip_ids, vectors, strategy=strategy, epoch=epoch).table for epoch in (0, 1, 2, 1)]
    assert epochs[1].equals(epochs[3])
    assert group(clip_ids, vectors, strategy=strategy).table.equals(epochs[0])
    different = {frozenset(frozenset(ids) for ids in members(table)) for table in epochs}
    assert len(different) == 3


def test_an_epoch_repeats_few_pairs_and_keeps_most_of_the_similarity() -> None:
    clip_ids, vectors = names(1000), cloud(1000)
    tables = [group(clip_ids, vectors, clips=2, epoch=epoch).table for epoch in (0, 1, 2)]
    pairs = [{frozenset(ids) for ids in members(table)} for table in tables]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert len(pairs[first] & pairs[second]) < 0.25 * 500
    cosines = [mean_pair_cosine(table, clip_ids, vectors) for table in tables]
    assert min(cosines[1:]) > 0.95 * cosines[0]


@pytest.mark.parametrize("clips", [2, 4, 8])
def test_diverse_groups_are_less_similar_than_random_ones(clips) -> None:
    clip_ids, vectors = names(1000), cloud(1000)
    diverse, random = (
        mean_pair_cosine(group(clip_ids, vectors, strategy=strategy, clips=clips).table, clip_ids, vectors)
        for strategy in ("diverse", "random")
    )
    assert diverse < 0 < random


@pytest.mark.parametrize("splits", [["train", "test"], ["train"]])
def test_a_clip_of_no_split_is_refused(splits) -> None:
    with pytest.raises(AccountingError, match="every clip is of split train or val, got"):
        group_splits(
            names(2),
            None,
            splits=pa.array(splits),
            strategy="random",
            clips_per_group=2,
            seed=0,
            remainder="drop",
        )


def test_float16_vectors_are_grouped_like_the_float32_they_came_from() -> None:
    clip_ids, vectors = names(200), cloud(200).astype(np.float16)
    assert group(clip_ids, vectors).table.equals(group(clip_ids, vectors.astype(np.float32)).table)


def test_identical_vectors_are_grouped_all_the_same() -> None:
    vectors = np.tile(cloud(1), (600, 1))
    assert [len(ids) for ids in members(group(names(600), vectors, clips=8).table)] == [8] * 75


def test_pairs_of_twins_end_up_together() -> None:
    twins = cloud(128, dim=32, num_clusters=128, seed=5)
    found = members(group(names(256), np.concatenate([twins, twins]), clips=2).table)
    place = {clip: index for index, clip in enumerate(names(256).to_pylist())}
    assert all(place[a] % 128 == place[b] % 128 for a, b in found)


def test_leftovers_of_all_buckets_are_grouped_in_one_last_pass() -> None:
    from weave_data.cluster.cosines import UnitRows
    from weave_data.cluster.similar import group_similar
    from weave_data.cluster.task import GroupTask

    vectors = UnitRows(cloud(1003, seed=2), np.arange(1003))
    task = GroupTask(vectors, 8, np.random.default_rng(0).permutation(1003))
    found = group_similar(task, seed=0, max_rows=64)
    assert found.groups.shape == (125, 8)
    assert len(found.leftovers) == 3
    assert sorted([*found.groups.ravel(), *found.leftovers]) == list(range(1003))


def test_clips_of_a_group_lie_in_hash_order_whatever_the_vectors() -> None:
    clip_ids = names(64)
    chunks = members(group(clip_ids, None, strategy="random", clips=64).table)[0]
    for ids in members(group(clip_ids, cloud(64)).table):
        assert ids == sorted(ids, key=chunks.index)


def test_cluster_ids_are_centroids_or_minus_one() -> None:
    clip_ids, vectors = names(1024), cloud(1024)
    clustered = group(clip_ids, vectors).table["cluster_id"]
    assert set(clustered.to_pylist()) == {0, 1, 2, 3}
    assert set(group(clip_ids, None, strategy="random").table["cluster_id"].to_pylist()) == {-1}


def test_single_gives_every_clip_its_own_group() -> None:
    found = group(names(10), None, strategy="single", clips=1)
    assert sorted(members(found.table)) == sorted([clip] for clip in names(10).to_pylist())


def test_a_clip_given_twice_is_refused() -> None:
    with pytest.raises(AccountingError, match="clip a appears twice"):
        group(pa.array(["a", "b", "a"]), None, strategy="random", clips=2)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (None, "got none"),
        (cloud(5), r"one vector for each of 4 clips, got shape \(5, 64\)"),
        (cloud(4) * 1.5, "has length 1.5"),
        (np.full((4, 8), np.nan, np.float32), "has length nan"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors, message) -> None:
    with pytest.raises(VerificationError, match=message):
        group(names(4), vectors, clips=2)


def test_no_group_and_no_recipe_mixes_train_and_val() -> None:
    clip_ids, vectors = names(500), cloud(500)
    held_out = set()
    for strategy, clips in (("random", 2), ("clustered", 4)):
        table, dropped, _ = group_splits(
            clip_ids,
            vectors,
            splits=split_of(clip_ids, 0.2),
            strategy=strategy,
            clips_per_group=clips,
            seed=clips,
            remainder="drop",
        )
        val = set(table.filter(pc.equal(table["split"], "val"))["clip_id"].to_pylist())
        train = set(table.filter(pc.equal(table["split"], "train"))["clip_id"].to_pylist())
        assert not val & train
        assert len(val) + len(train) + len(dropped) == 500
        members(table)
        num_mixed = table.group_by("group_index").aggregate([("split", "count_distinct")])
        assert set(num_mixed["split_count_distinct"].to_pylist()) == {1}
        held_out |= val
        assert not train & held_out


@given(small=st.floats(0, 0.99), large=st.floats(0, 0.99))
def test_a_larger_val_fraction_only_moves_clips_from_train_to_val(small, large) -> None:
    small, large = sorted((small, large))
    few, many = (set(np.flatnonzero(pc.equal(split_of(names(200), f), "val"))) for f in (small, large))
    assert few <= many


def test_val_fraction_is_the_share_of_clips_held_out() -> None:
    share = pc.mean(pc.equal(split_of(names(20_000), 0.1), "val")).as_py()
    assert abs(share - 0.1) < 0.01  # five standard deviations
    assert set(split_of(names(1000), 0.0).to_pylist()) == {"train"}


@pytest.mark.process
def test_groups_are_the_same_on_one_and_two_threads() -> None:
    script = """
import sys, hashlib, json
from test_groups import cloud, group, names
from weave_data.tables import sha256_hex, table_bytes
table = group(names(3000), cloud(3000, dim=256, seed=1)).table
print(json.dumps(sha256_hex(table_bytes(table))))
"""
    found = []
    for threads in ("1", "2"):
        counts = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **counts, "PYTHONPATH": str(Path(__file__).parent)},
        )
        found.append(json.loads(run.stdout.splitlines()[-1]))
    assert found[0] == found[1]
