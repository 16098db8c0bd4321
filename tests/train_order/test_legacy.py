"""VideoWeave's sampler: the golden batches were made by running the original."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import ConfigError
from weave_train.order import LegacyOrder, rank_slots, split_modality_batches

GOLDEN = json.loads((Path(__file__).parent / "golden" / "split_modality.json").read_text())


def rows_like_golden(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.arange(num_rows, dtype=np.int64)
    return index * 7919 % 10 < 7, (index * index * 31 + 17 * index) % 97 + 1


def batches_of(case: dict[str, Any]) -> np.ndarray:
    return split_modality_batches(
        *rows_like_golden(case["num_rows"]),
        batch_rows=case["batch_rows"],
        world_size=case["world_size"],
        seed=case["seed"] + case["epoch"],
    )


def make_order(*shards: list[int], world_size: int = 1, batch_rows: int = 8) -> LegacyOrder:
    def lengths(data_epoch: int) -> pa.Table:
        is_multimodal, length = rows_like_golden(sum(shards[data_epoch]))
        return pa.table({"is_multimodal": is_multimodal, "length": pa.array(length, pa.int32())})

    return LegacyOrder(
        shards, group_rows=4, batch_rows=batch_rows, seed=7, world_size=world_size, lengths=lengths
    )


def place(row) -> tuple[int, int, int]:
    return row.group.shard_index, row.group.group_index, row.row_index


@pytest.mark.parametrize("case", GOLDEN["small"])
def test_batches_are_those_of_the_original(case) -> None:
    assert batches_of(case).tolist() == case["batches"]


@pytest.mark.parametrize("case", GOLDEN["large"], ids=lambda case: str(case["num_rows"]))
def test_batches_of_two_million_rows_are_those_of_the_original(case) -> None:
    assert hashlib.sha256(batches_of(case).astype("<i8").tobytes()).hexdigest() == case["sha256"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_every_row_comes_and_a_batch_has_one_modality(rows, capacity, world_size) -> None:
    is_multimodal, length = (np.array(column) for column in zip(*rows, strict=True))
    shape = {"batch_rows": capacity * world_size, "seed": 1}
    batches = split_modality_batches(is_multimodal, length, world_size=world_size, **shape)
    assert set(batches.ravel().tolist()) == set(range(len(rows)))
    assert all(len(set(is_multimodal[batch].tolist())) == 1 for batch in batches)
    # which rows a batch holds does not depend on the number of ranks
    alone = split_modality_batches(is_multimodal, length, world_size=1, **shape)
    assert np.array_equal(np.sort(batches, axis=1), np.sort(alone, axis=1))


def test_addresses_lead_to_the_rows_of_the_batches() -> None:
    order = make_order([21, 29], world_size=2)
    case = GOLDEN["small"][1]
    starts = [0, 21]
    for step, batch in enumerate(case["batches"]):
        rows = order.rows(step)
        assert [starts[shard] + group * 4 + row for shard, group, row in map(place, rows)] == batch
        for rank in range(2):
            slots = rank_slots(rank, world_size=2, batch_rows=8)
            assert order.rows(step, slots) == [row for row in rows if row.slot in slots]
            assert order.slots_at(step, slots) == list(slots)
    assert order.num_steps(1) == len(case["batches"])


def test_epochs_follow_each_other_and_stored_epochs_cycle() -> None:
    order = make_order([21, 29], [40])
    first, second = (order.num_steps(2) - order.num_steps(1), order.num_steps(1))[::-1]
    assert order.num_steps(5) == 3 * first + 2 * second
    assert [order.locate(step) for step in (0, first, first + second, 2 * first + second)] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
    ]
    row = order.rows(first + second)[0]
    assert (row.epoch, row.group.data_epoch) == (2, 0)
    assert list(map(place, order.rows(0))) != list(map(place, order.rows(first + second)))
    assert order.rows(0) == make_order([21, 29], [40]).rows(0)


def test_processes_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 do not divide 8 rows"):
        make_order([10], world_size=3)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rows"):
        make_order([0])
