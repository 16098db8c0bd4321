"""Claims about clips that must not share a group."""

from __future__ import annotations

import numpy as np
import pytest
from clouds import cloud, names
from hypothesis import given, settings
from hypothesis import strategies as st
from test_groups import STRATEGIES, group, members

from weave_data.cluster import group_bucket
from weave_data.cluster.cosines import quantize
from weave_data.cluster.separation import deal, deal_short, most_groups, separate
from weave_data.errors import AccountingError


def brute_force_groups(labels: np.ndarray, clips: int) -> int:
    """Take one row of each of the L commonest labels, as long as there are L labels."""
    counts = np.sort(np.unique(labels, return_counts=True)[1])[::-1].copy()
    found = 0
    while len(counts) >= clips and counts[clips - 1] > 0:
        counts[:clips] -= 1
        counts[::-1].sort()
        found += 1
    return found


labellings = st.lists(st.integers(0, 7), max_size=60).map(lambda labels: np.array(labels, dtype=np.int64))


@given(labels=labellings, clips=st.integers(1, 6))
def test_the_number_of_groups_is_the_most_that_labels_allow(labels, clips) -> None:
    assert most_groups(labels, clips) == brute_force_groups(labels, clips)


@given(labels=labellings, clips=st.integers(1, 6), seed=st.integers(0, 9))
def test_dealt_groups_hold_no_label_twice_and_every_row_once(labels, clips, seed) -> None:
    order = np.random.default_rng(seed).permutation(len(labels))
    groups, leftovers = deal(labels, clips, order)
    assert groups.shape == (most_groups(labels, clips), clips)
    assert all(len(set(labels[rows])) == clips for rows in groups)
    assert sorted([*groups.ravel(), *leftovers]) == list(range(len(labels)))


@given(labels=labellings, clips=st.integers(1, 6))
def test_short_groups_hold_no_label_twice_and_every_row_once(labels, clips) -> None:
    groups = deal_short(labels, clips, np.arange(len(labels)))
    assert sorted(np.concatenate([*groups, []])) == list(range(len(labels)))
    assert all(0 < len(set(labels[rows])) == len(rows) <= clips for rows in groups)


@given(labels=labellings, clips=st.integers(1, 5), seed=st.integers(0, 9))
def test_separating_breaks_up_only_what_it_must(labels, clips, seed) -> None:
    rows = np.random.default_rng(seed).permutation(len(labels))
    groups, spare = np.split(rows, [len(rows) // clips * clips])
    groups = groups.reshape(-1, clips)
    found, leftovers = separate(groups, spare, labels)
    assert len(found) == most_groups(labels, clips)
    assert all(len(set(labels[rows])) == clips for rows in found)
    assert sorted([*found.ravel(), *leftovers]) == list(range(len(labels)))
    is_sound = [len(set(labels[rows])) == clips for rows in groups]
    if all(is_sound) and len(groups) == len(found):
        assert np.array_equal(found, groups)


@settings(max_examples=40, deadline=None)
@given(
    num_clips=st.integers(0, 90),
    clips=st.integers(2, 6),
    num_labels=st.integers(1, 40),
    strategy=st.sampled_from(STRATEGIES),
    remainder=st.sampled_from(["drop", "keep"]),
    seed=st.integers(0, 3),
)
def test_groups_of_labelled_clips_are_exact_apart_and_as_many_as_can_be(
    num_clips, clips, num_labels, strategy, remainder, seed
) -> None:
    labels = np.random.default_rng(seed).zipf(1.5, num_clips) % num_labels
    vectors = cloud(num_clips, dim=8, num_clusters=4, seed=seed)
    clip_ids = names(num_clips)
    found = group(clip_ids, vectors, strategy=strategy, clips=clips, remainder=remainder, labels=labels)
    label_of = dict(zip(clip_ids.to_pylist(), labels.tolist(), strict=True))
    groups = members(found.table)
    assert all(len({label_of[clip] for clip in ids}) == len(ids) for ids in groups)
    most = brute_force_groups(labels, clips)
    assert [len(ids) for ids in groups[:most]] == [clips] * most
    left = num_clips - most * clips
    if remainder == "drop":
        assert (len(groups), len(found.dropped)) == (most, left)
        assert found.num_apart == left - num_clips % clips
    else:
        assert (len(found.dropped), found.num_apart) == (0, 0)
        assert sum(len(ids) for ids in groups[most:]) == left


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_that_nobody_shares_change_nothing(strategy) -> None:
    clip_ids, vectors = names(300), cloud(300)
    labelled = group(clip_ids, vectors, strategy=strategy, labels=np.arange(300)[::-1])
    assert labelled.table.equals(group(clip_ids, vectors, strategy=strategy).table)


def test_a_label_that_fills_whole_buckets_is_spread_over_the_others() -> None:
    from weave_data.cluster.cosines import UnitRows
    from weave_data.cluster.similar import group_similar
    from weave_data.cluster.task import GroupTask

    vectors = cloud(400, dim=16, num_clusters=2, noise=0.2, seed=1)
    labels = np.where(vectors @ vectors[0] > 0.5, -1, np.arange(400))  # one cluster is one page
    task = GroupTask(UnitRows(vectors, np.arange(400)), 2, np.arange(400), labels)
    groups, leftovers, _ = group_similar(task, seed=0, max_rows=32)
    assert len(groups) == most_groups(labels, 2) > 100
    assert sorted([*groups.ravel(), *leftovers]) == list(range(400))
    assert np.all(labels[groups[:, 0]] != labels[groups[:, 1]])


def test_clips_kept_apart_are_still_grouped_with_similar_ones() -> None:
    from weave_data.cluster import mean_pair_cosine

    clip_ids, vectors = names(600), cloud(600)
    labels = np.arange(600) // 2
    free, apart = (
        mean_pair_cosine(group(clip_ids, vectors, labels=given).table, clip_ids, vectors)
        for given in (None, labels)
    )
    assert apart > 0.97 * free


def test_every_clip_needs_a_label() -> None:
    with pytest.raises(AccountingError, match="3 labels for 4 clips"):
        group(names(4), None, strategy="random", labels=np.zeros(3, np.int64))


@pytest.mark.parametrize("seed", range(3))
def test_a_page_of_half_a_bucket_is_kept_apart_where_swaps_alone_get_stuck(seed) -> None:
    vectors = cloud(120, dim=16, num_clusters=3, noise=0.3, seed=seed)
    labels = np.arange(120)
    labels[np.argsort(-(vectors @ vectors[0]))[:60]] = -1
    groups, leftovers = group_bucket(
        quantize(vectors), clips_per_group=2, ranks=np.arange(120), labels=labels
    )
    assert (len(groups), len(leftovers)) == (60, 0)
    assert np.all((labels[groups] == -1).sum(axis=1) == 1)
