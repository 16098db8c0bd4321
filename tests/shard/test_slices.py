from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import VerificationError
from weave_data.shard import ShardSlice, count_rows, num_row_groups, row_group_span, shard_path, shard_slices

counts = st.dictionaries(
    st.tuples(st.sampled_from(["train", "val"]), st.integers(0, 3)), st.integers(0, 60), max_size=6
)


@settings(deadline=None, max_examples=40)
@given(counts, st.integers(1, 20))
def test_slices_partition_the_plan_in_order(num_rows: dict[tuple[str, int], int], shard_rows: int) -> None:
    slices = shard_slices(num_rows, shard_rows)
    assert [row for piece in slices for row in range(piece.start, piece.stop)] == list(
        range(sum(num_rows.values()))
    )
    labels = [key for key, rows in num_rows.items() for _ in range(rows)]
    assert [(piece.split, piece.epoch) for piece in slices for _ in range(piece.num_rows)] == labels


@settings(deadline=None, max_examples=40)
@given(counts, st.integers(1, 20))
def test_every_shard_is_full_but_the_last_of_its_split_and_epoch(
    num_rows: dict[tuple[str, int], int], shard_rows: int
) -> None:
    slices = shard_slices(num_rows, shard_rows)
    for key, rows in num_rows.items():
        mine = [piece for piece in slices if (piece.split, piece.epoch) == key]
        assert [piece.index for piece in mine] == list(range(-(-rows // shard_rows)))
        assert all(piece.num_rows == shard_rows for piece in mine[:-1])
        assert all(0 < piece.num_rows <= shard_rows for piece in mine[-1:])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 40))
def test_row_groups_partition_a_shard_from_counts_alone(rows: int, row_group_rows: int) -> None:
    spans = [row_group_span(rows, row_group_rows, i) for i in range(num_row_groups(rows, row_group_rows))]
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(rows))
    assert all(stop - start == row_group_rows for start, stop in spans[:-1])
    with pytest.raises(IndexError, match=f"the shard of {rows} rows"):
        row_group_span(rows, row_group_rows, len(spans))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["train", "val"]), st.integers(0, 2)), unique=True), st.data())
def test_rows_are_counted_by_split_and_epoch_across_chunks(
    keys: list[tuple[str, int]], data: st.DataObject
) -> None:
    expected = {key: data.draw(st.integers(1, 5)) for key in keys}
    rows = [key for key, count in expected.items() for _ in range(count)]
    plan = pa.table(
        {
            "split": pa.array([split for split, _ in rows], pa.string()),
            "epoch": pa.array([epoch for _, epoch in rows], pa.int32()),
        }
    )
    cut = data.draw(st.integers(0, len(rows)))
    plan = pa.concat_tables([plan.slice(0, cut), plan.slice(cut)])
    assert list(count_rows(plan).items()) == list(expected.items())


def test_rows_of_a_split_that_do_not_lie_together_are_refused() -> None:
    plan = pa.table({"split": ["train", "val", "train"], "epoch": pa.array([0, 0, 0], pa.int32())})
    with pytest.raises(VerificationError, match="rows of split train, epoch 0 do not lie together"):
        count_rows(plan)


def test_a_shard_is_named_by_recipe_fingerprint_split_epoch_and_index() -> None:
    piece = ShardSlice("val", 2, 31, 100, 110)
    assert (
        shard_path("l4", "0123456789abcdef" * 4, piece) == "l4/0123456789ab/val/epoch=2/shard-00031.parquet"
    )
