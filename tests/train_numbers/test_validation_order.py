"""Rows of a validation pass, by rank and step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_data.errors import ConfigError
from weave_train.order import rank_slots
from weave_train.train.validation import is_validation_step
from weave_train.train.validation_order import ValidationOrder


def stored_rows(shard_rows: list[int], group_rows: int) -> list[tuple[int, int, int]]:
    """(shard, group, row) in stored order."""
    return [(shard, *divmod(row, group_rows)) for shard, rows in enumerate(shard_rows) for row in range(rows)]


@given(
    shard_rows=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    group_rows=st.integers(1, 9),
    rank_rows=st.integers(1, 5),
    world_size=st.integers(1, 5),
    max_rows=st.none() | st.integers(1, 60),
)
def test_ranks_partition_the_first_rows(
    shard_rows: list[int], group_rows: int, rank_rows: int, world_size: int, max_rows: int | None
) -> None:
    order = ValidationOrder(
        shard_rows, group_rows=group_rows, rank_rows=rank_rows, world_size=world_size, max_rows=max_rows
    )
    taken = []
    for rank in range(world_size):
        slots = rank_slots(rank, world_size=world_size, batch_rows=order.batch_rows)
        assert len(slots) == rank_rows
        rows_of_rank = []
        for step in range(order.num_steps()):
            addresses = order.rows(step, slots)
            assert [address.slot for address in addresses] == order.slots_at(step, slots)
            rows_of_rank += [
                (address.group.shard_index, address.group.group_index, address.row_index)
                for address in addresses
            ]
        assert rows_of_rank == sorted(rows_of_rank), "a rank reads forward"
        taken += rows_of_rank
    assert taken == stored_rows(shard_rows, group_rows)[:max_rows]


@given(world_size=st.integers(1, 6), rank_rows=st.integers(1, 4))
def test_every_pass_is_the_same(world_size: int, rank_rows: int) -> None:
    order = ValidationOrder([13, 8], group_rows=4, rank_rows=rank_rows, world_size=world_size)
    steps = order.num_steps()
    assert order.num_steps(3) == 3 * steps
    assert order.rows(0) == order.rows(steps)
    assert order.locate(steps) == (1, 0)


def test_a_split_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="val_dataset: holds no rows"):
        ValidationOrder([], group_rows=4, rank_rows=1, world_size=1)


def test_a_pass_follows_every_n_steps_or_an_epoch_and_the_last_step() -> None:
    order = ValidationOrder([10], group_rows=4, rank_rows=2, world_size=1)  # epochs of five steps

    def steps(every: int | None) -> list[int]:
        return [
            step for step in range(1, 13) if is_validation_step(step, every=every, num_steps=12, order=order)
        ]

    assert steps(4) == [4, 8, 12]
    assert steps(None) == [5, 10, 12]
