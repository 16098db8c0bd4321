"""Data sets in fixed slots of every batch, each with its own epochs."""

from __future__ import annotations

import collections
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import ConfigError
from weave_train.order import MixtureOrder, MixturePart, TrainingOrder, deal_slots, rank_slots

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=6)
DATA_SETS = st.lists(
    st.tuples(st.lists(st.integers(1, 19), min_size=1, max_size=4), st.integers(1, 5)), min_size=1, max_size=4
)  # (rows of each shard, slots)


def part(shard_rows: list[int], slots: int, source_index: int) -> MixturePart:
    order = TrainingOrder.over(
        [shard_rows], group_rows=3, batch_rows=slots, window_groups=2, seed=3, source_index=source_index
    )
    return MixturePart(order, slots)


def mixture(data_sets: list[tuple[list[int], int]]) -> MixtureOrder:
    return MixtureOrder([part(rows, slots, index) for index, (rows, slots) in enumerate(data_sets)])


def place(row) -> tuple[int, int, int]:
    return row.group.shard_index, row.group.group_index, row.row_index


@given(COUNTS)
def test_every_range_of_slots_holds_the_data_sets_in_proportion(counts) -> None:
    dealt = deal_slots(counts)
    total = sum(counts)
    assert [dealt.count(k) for k in range(len(counts))] == counts
    for k, count in enumerate(counts):
        before = [dealt[:slot].count(k) for slot in range(total + 1)]
        assert all(abs(have - Fraction(slot * count, total)) < 1 for slot, have in enumerate(before))


def test_a_data_set_of_a_quarter_has_a_quarter_of_each_rank() -> None:
    dealt = deal_slots([96, 32])
    for world in (1, 2, 4, 8):
        for rank in range(world):
            slots = rank_slots(rank, world_size=world, batch_rows=128)
            assert [dealt[slot] for slot in slots].count(1) == len(slots) // 4


@settings(max_examples=50, deadline=None)
@given(DATA_SETS)
def test_each_data_set_is_read_once_in_each_of_its_epochs(data_sets) -> None:
    order = mixture(data_sets)
    num_steps = order.num_steps(1)
    assert num_steps == max(each.order.num_steps(1) for each in order.parts)
    seen = collections.defaultdict(list)
    for step in range(num_steps):
        for row in order.rows(step):
            seen[row.group.source_index, row.epoch].append(place(row))
    for index, (shard_rows, _) in enumerate(data_sets):
        whole_epochs = order.parts[index].order.locate(num_steps)[0]
        assert whole_epochs >= 1
        for epoch in range(whole_epochs):
            assert len(seen[index, epoch]) == len(set(seen[index, epoch])) == sum(shard_rows)


@settings(max_examples=50, deadline=None)
@given(DATA_SETS, st.data())
def test_ranks_together_read_the_batch_of_one(data_sets, data) -> None:
    order = mixture(data_sets)
    world = data.draw(st.integers(1, order.batch_rows))
    owned = [rank_slots(rank, world_size=world, batch_rows=order.batch_rows) for rank in range(world)]
    for step in range(order.num_steps(2)):
        whole = order.rows(step)
        assert whole
        assert [row.slot for row in whole] == sorted({row.slot for row in whole})
        assert [row for slots in owned for row in order.rows(step, slots)] == whole
        assert [slot for slots in owned for slot in order.slots_at(step, slots)] == [
            row.slot for row in whole
        ]


def test_a_data_set_keeps_its_order_whatever_it_is_mixed_with() -> None:
    alone = part([40, 17], 4, 0).order
    mixed = mixture([([40, 17], 4), ([9], 2), ([5], 1)])
    for step in range(alone.num_steps(2)):
        own = [row for row in mixed.rows(step) if row.group.source_index == 0]
        assert [(place(row), row.epoch) for row in own] == [
            (place(row), row.epoch) for row in alone.rows(step)
        ]


def test_epochs_of_the_run_are_those_of_the_longest_data_set() -> None:
    order = mixture([([6], 3), ([40], 2)])  # 2 and 20 steps
    assert [order.num_steps(epochs) for epochs in (1, 2)] == [20, 40]
    assert order.locate(25) == (1, 5)
    assert {row.epoch for row in order.rows(25)} == {12, 1}


def test_an_order_in_other_batches_than_its_slots_is_refused() -> None:
    with pytest.raises(ConfigError, match="data set 0 has 4 slots and an order in batches of 3 rows"):
        MixtureOrder([MixturePart(part([9], 3, 0).order, 4)])
    with pytest.raises(ConfigError, match="names no data set"):
        MixtureOrder([])
