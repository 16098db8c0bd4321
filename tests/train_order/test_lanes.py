"""The order of rows: a pure function of seed, epoch and step, for any number of ranks."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import ConfigError
from weave_train.order import EpochOrder, RowAddress, TrainingOrder, permute, rank_slots

GRIDS = st.tuples(
    st.lists(st.integers(0, 23), min_size=1, max_size=6),  # rows of each shard
    st.integers(1, 5),  # rows of a group
    st.integers(1, 9),  # rows of a batch
    st.integers(1, 3),  # groups of a window
    st.integers(0, 99),  # seed
).filter(lambda grid: sum(grid[0]) > 0)

PINNED_FIRST = [(2, 0, 0), (2, 1, 2), (0, 0, 1), (0, 1, 2)]
PINNED_LAST = [(2, 2, 0), (0, 3, 0), (1, 3, 0)]


def make_order(grid: tuple[list[int], int, int, int, int]) -> EpochOrder:
    shard_rows, group_rows, batch_rows, window, seed = grid
    return EpochOrder(
        shard_rows, row_group_rows=group_rows, batch_rows=batch_rows, window_groups=window, seed=seed
    )


def place(row: RowAddress) -> tuple[int, int, int]:
    return row.group.shard_index, row.group.group_index, row.row_index


def every_row(shard_rows: list[int], group_rows: int) -> list[tuple[int, int, int]]:
    """Brute force: all rows there are."""
    return [
        (shard, row // group_rows, row % group_rows)
        for shard, rows in enumerate(shard_rows)
        for row in range(rows)
    ]


@given(st.integers(1, 400), st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    assert sorted(permute(index, size=size, key=key) for index in range(size)) == list(range(size))


@settings(max_examples=200, deadline=None)
@given(GRIDS, st.integers(0, 3))
def test_every_row_comes_once_an_epoch_and_only_the_last_batch_is_small(grid, epoch) -> None:
    order = make_order(grid)
    batches = [order.rows(step, epoch=epoch) for step in range(order.num_steps)]
    assert sorted(place(row) for batch in batches for row in batch) == every_row(grid[0], grid[1])
    assert all(len(batch) == grid[2] for batch in batches[:-1])
    assert 0 < len(batches[-1]) <= grid[2]


@settings(max_examples=200, deadline=None)
@given(GRIDS, st.data())
def test_any_number_of_ranks_reads_the_same_batches(grid, data) -> None:
    order = make_order(grid)
    world = data.draw(st.integers(1, grid[2]))
    owned = [rank_slots(rank, world_size=world, batch_rows=grid[2]) for rank in range(world)]
    assert [slot for slots in owned for slot in slots] == list(range(grid[2]))
    for step in range(order.num_steps):
        parts = [order.rows(step, epoch=1, slots=slots) for slots in owned]
        assert [row for part in parts for row in part] == order.rows(step, epoch=1)
        assert [[row.slot for row in part] for part in parts] == [
            order.slots_at(step, slots) for slots in owned
        ]


@settings(max_examples=100, deadline=None)
@given(GRIDS, st.data())
def test_a_row_group_outside_the_tail_is_read_by_one_rank(grid, data) -> None:
    order = make_order(grid)
    shard_rows, group_rows, batch_rows, *_ = grid
    world = data.draw(st.integers(1, batch_rows))
    full_groups = sum(rows // group_rows for rows in shard_rows)
    main_steps = full_groups // batch_rows * group_rows
    readers = collections.defaultdict(set)
    for rank in range(world):
        slots = rank_slots(rank, world_size=world, batch_rows=batch_rows)
        for step in range(main_steps):
            for row in order.rows(step, epoch=0, slots=slots):
                readers[row.group.shard_index, row.group.group_index].add(rank)
    assert all(len(ranks) == 1 for ranks in readers.values())
    assert len(readers) == full_groups // batch_rows * batch_rows


def test_epochs_and_seeds_differ_but_repeat_exactly() -> None:
    grid = ([64, 64, 40], 4, 8, 2, 7)
    order, again, other = make_order(grid), make_order(grid), make_order((*grid[:4], 8))
    first = [order.rows(step, epoch=0) for step in range(order.num_steps)]
    assert first == [again.rows(step, epoch=0) for step in range(order.num_steps)]
    assert first != [order.rows(step, epoch=1) for step in range(order.num_steps)]
    assert first != [other.rows(step, epoch=0) for step in range(order.num_steps)]


def test_order_version_one_is_pinned() -> None:
    order = make_order(([10, 10, 7], 3, 4, 2, 7))
    assert [place(row) for row in order.rows(0, epoch=0)] == PINNED_FIRST
    assert [place(row) for row in order.rows(order.num_steps - 1, epoch=2)] == PINNED_LAST


def test_positions_of_rows_are_uniform() -> None:
    """Chi-square over (eighth of the set, eighth of the epoch)."""
    order = make_order(([256] * 16, 8, 16, 4, 3))
    table = np.zeros((8, 8))
    for epoch in range(4):
        for step in range(order.num_steps):
            for row in order.rows(step, epoch=epoch):
                table[
                    (row.group.shard_index * 256 + row.group.group_index * 8) // 512,
                    step * 8 // order.num_steps,
                ] += 1
    expected = table.sum() / 64
    # whole groups move together, so counts vary group_rows times as much as single rows would
    chi_square = ((table - expected) ** 2 / expected).sum() / 8
    assert chi_square < 100  # 49 degrees of freedom: p of 100 is about 2e-5


def test_a_batch_of_a_hundred_million_rows_is_located_without_tables() -> None:
    order = make_order(([1024] * 97_657, 16, 1024, 4, 7))
    rows = order.rows(order.num_steps - 5000, epoch=3)
    assert len({place(row)[:2] for row in rows}) == 1024


def test_more_ranks_than_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="4 processes for a global batch of 3 rows"):
        rank_slots(0, world_size=4, batch_rows=3)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rows"):
        make_order(([0], 1, 1, 1, 0))


def test_a_run_cycles_over_stored_epochs() -> None:
    short, long = make_order(([5], 2, 2, 1, 7)), make_order(([8], 2, 2, 1, 7))
    run = TrainingOrder([short, long])
    assert run.num_steps(3) == 3 + 4 + 3
    assert [run.locate(step) for step in (0, 2, 3, 6, 7, 13)] == [
        (0, 0),
        (0, 2),
        (1, 0),
        (1, 3),
        (2, 0),
        (3, 3),
    ]
    assert run.rows(8) == short.rows(1, epoch=2)
