"""Claims about intermediate files and frame indices: equal content is equal bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weave_data import tables
from weave_data.errors import VerificationError
from weave_data.frame_policy import linspace_indices, linspace_table
from weave_data.keyed_hash import keyed_hashes, keyed_ranks
from weave_data.records import (
    CLIP_SCHEMA,
    FRAME_SCHEMA,
    GROUP_SCHEMA,
    PLAN_SCHEMA,
    REJECT_SCHEMA,
    embedding_schema,
)
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes


def vectors(num_rows: int) -> pa.Table:
    flat = pa.array(np.linspace(-1, 1, 3 * num_rows).astype(np.float16))
    ids = pa.array([f"clip {index % 5}" for index in range(num_rows)], pa.string())
    return pa.table([ids, pa.FixedSizeListArray.from_arrays(flat, 3)], schema=embedding_schema(3))


def entries(num_rows: int) -> pa.Table:
    lists = pa.array([list(range(index % 4)) for index in range(num_rows)])
    columns = {"clip_id": pa.array([str(index) for index in range(num_rows)], pa.string())}
    columns["source_seconds"] = pa.array(np.arange(num_rows, dtype=np.float32))
    for name in ("source_frames", "width", "height"):
        columns[name] = pa.array(np.arange(num_rows, dtype=np.int32))
    for name in ("frame_index", "frame_seconds", "frame_offset", "frame_bytes"):
        columns[name] = lists.cast(FRAME_SCHEMA.field(name).type)
    return pa.table(columns, schema=FRAME_SCHEMA)


@pytest.mark.parametrize("make", [vectors, entries])
@pytest.mark.parametrize("rows_per_group", [65_536, 4])
def test_bytes_do_not_depend_on_chunks_or_slices(make, rows_per_group, monkeypatch) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP_ROWS", rows_per_group)
    whole = make(23)
    pieces = pa.concat_tables([make(23)[:5], make(23)[5:6], make(23)[6:]])
    padded = pa.concat_tables([make(7), whole])[7:]
    assert table_bytes(whole) == table_bytes(pieces) == table_bytes(padded)
    assert table_bytes(whole) != table_bytes(whole[1:])


def test_bytes_do_not_depend_on_chunks_where_a_column_takes_several_pages() -> None:
    random = np.random.default_rng(0)
    whole = pa.table({"text": pa.array([f"{number}" * 8 for number in random.integers(0, 1 << 40, 60_000)])})
    pieces = pa.concat_tables([whole[:777], whole[777:33_333], whole[33_333:]])
    assert table_bytes(whole) == table_bytes(pieces)


@pytest.mark.parametrize("make", [vectors, entries])
def test_tables_come_back_as_they_were_and_are_written_the_same_again(make, monkeypatch) -> None:
    monkeypatch.setattr(tables, "_ROW_GROUP_ROWS", 4)
    data = table_bytes(make(10))
    table = read_table_bytes(data, schema=make(10).schema)
    assert pq.ParquetFile(pa.BufferReader(data)).num_row_groups == 3
    assert table.equals(make(10))
    assert table_bytes(table) == data


@pytest.mark.parametrize("schema", [CLIP_SCHEMA, FRAME_SCHEMA, GROUP_SCHEMA, PLAN_SCHEMA, REJECT_SCHEMA])
def test_empty_tables_keep_their_schema(schema) -> None:
    assert read_table_bytes(table_bytes(schema.empty_table()), schema=schema).num_rows == 0


def test_metadata_is_kept_in_one_order_without_that_of_pandas() -> None:
    one = vectors(2).replace_schema_metadata({"b": "2", "a": "1", "pandas": "{}"})
    two = vectors(2).replace_schema_metadata({"a": "1", "b": "2"})
    assert table_bytes(one) == table_bytes(two)
    assert read_table_bytes(table_bytes(one)).schema.metadata == {b"a": b"1", b"b": b"2"}
    assert table_bytes(vectors(2).replace_schema_metadata({})) == table_bytes(vectors(2))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_other_bytes_are_refused(data) -> None:
    with pytest.raises(VerificationError, match="not a readable Parquet file"):
        read_table_bytes(data)


def test_truncated_files_are_refused() -> None:
    with pytest.raises(VerificationError):
        read_table_bytes(table_bytes(vectors(100))[:-20])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (CLIP_SCHEMA, "columns are clip_id, vector; expected clip_id, key"),
        (embedding_schema(4), r"column vector is .*\[3\] not null; expected .*\[4\] not null"),
    ],
)
def test_another_schema_is_refused(schema, message) -> None:
    with pytest.raises(VerificationError, match=message):
        read_table_bytes(table_bytes(vectors(2)), schema=schema)


def test_a_file_has_the_hash_of_its_bytes(tmp_path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert sha256_hex(tmp_path / "file") == sha256_hex(data)
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.integers(1, 40))
def test_linspace_is_that_of_videoweave_for_one_clip_and_for_many(lengths, num_frames) -> None:
    expected = [np.linspace(0, length - 1, num_frames).astype(int).tolist() for length in lengths]
    assert [linspace_indices(length, num_frames).tolist() for length in lengths] == expected
    assert linspace_table(np.array(lengths), num_frames).tolist() == expected


@pytest.mark.parametrize(("length", "num_frames"), [(0, 4), (4, 0)])
def test_no_frames_can_not_be_asked_for(length, num_frames) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        linspace_indices(length, num_frames)


def test_linspace_of_no_clips_is_empty() -> None:
    assert linspace_table(np.array([], dtype=np.int32), 4).shape == (0, 4)


def test_hashes_depend_on_the_id_and_the_key_only() -> None:
    ids = pa.array(["b", "a", "Ä"])
    hashes = keyed_hashes(ids, key="x")
    assert (
        keyed_hashes(pa.chunked_array([ids[1:], ids[:1]]), key="x").tolist() == np.roll(hashes, -1).tolist()
    )
    assert not set(hashes) & set(keyed_hashes(ids, key="y"))
    assert hashes.dtype == np.uint64
    assert sorted(keyed_ranks(pa.array(["a", "b", "c", "d"]), key="x")) == [0, 1, 2, 3]
    assert keyed_hashes(pa.array([], pa.string()), key="x").shape == (0,)
