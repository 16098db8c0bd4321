from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import CountingStore, World, make_world, write_shards, write_world

from weave_data.errors import CommitError, ConfigError, VerificationError
from weave_data.records import WOVEN_SCHEMA
from weave_data.shard import ADDRESS_SCHEMA, ShardReceipt, ShardRequest, write_shard
from weave_data.storage import Store, open_store
from weave_data.tables import sha256_hex

REQUEST = ShardRequest("l4/abc/train/epoch=0/shard-00000.parquet", "train", 0, 4)


def write_first(world: World, store: Store, **options: object) -> ShardReceipt:
    return write_shard(REQUEST, world.plan.slice(0, 8), world.addresses, store, **options)


def metadata_of(store: Store) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(store.get(REQUEST.path)))


def test_a_shard_holds_its_plan_rows_unchanged(world: World, store: Store) -> None:
    write_world(world, store)
    write_first(world, store)
    table = pq.read_table(pa.BufferReader(store.get(REQUEST.path)))
    assert table.schema.equals(WOVEN_SCHEMA, check_metadata=True)
    plan = world.plan.slice(0, 8).drop_columns("record_id").to_pylist()
    for stored, planned in zip(table.to_pylist(), plan, strict=True):
        assert {name: stored[name] for name in planned} == planned
        assert len(stored["frames"]) == len(stored["frame_seconds"]) == planned["num_frames"]
        assert stored["frame_seconds"] == pytest.approx([i / 25 for i in planned["frame_index"]])


def test_a_shard_is_the_same_bytes_whoever_writes_it(world: World, tmp_path: Path) -> None:
    sums = set()
    for threads, chunked in ((1, False), (9, True)):
        store = open_store(str(tmp_path / str(threads)))
        write_world(world, store)
        plan = world.plan
        if chunked:
            plan = pa.concat_tables([plan.slice(0, 3), plan.slice(3)])
            plan = pa.Table.from_pylist(plan.to_pylist(), schema=plan.schema)
        receipt = write_shard(REQUEST, plan.slice(0, 8), world.addresses, store, num_threads=threads)
        sums.add(receipt.entry.sha256)
        assert receipt.entry.sha256 == sha256_hex(store.get(REQUEST.path))
    assert len(sums) == 1


def test_only_pixels_are_stored_plain_and_only_labels_through_dictionaries(
    world: World, store: Store
) -> None:
    write_world(world, store)
    write_first(world, store)
    metadata = metadata_of(store)
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for number in range(group.num_columns):
            column = group.column(number)
            name = column.path_in_schema
            is_pixels = name == "frames.list.element"
            assert column.compression == ("UNCOMPRESSED" if is_pixels else "ZSTD"), name
            assert column.has_dictionary_page == (name in {"recipe", "strategy", "split"}), name
            numbers = {"epoch", "num_frames", "width", "height", "text_bytes"}
            assert column.is_stats_set == (name in numbers), name


def test_every_row_group_is_full_but_the_last(world: World, store: Store) -> None:
    write_world(world, store)
    receipts = write_shards(world, store, "f" * 64)
    sizes = []
    for receipt in receipts:
        metadata = pq.read_metadata(pa.BufferReader(store.get(receipt.entry.path)))
        sizes.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    assert sizes == [[4, 4], [4, 4], [4, 2], [4, 1]]


def test_a_receipt_says_where_the_footer_is(world: World, store: Store) -> None:
    write_world(world, store)
    entry = write_first(world, store).entry
    data = store.get(REQUEST.path)
    assert entry.bytes == len(data) == entry.footer_offset + entry.footer_bytes
    assert int.from_bytes(data[-8:-4], "little") + 8 == entry.footer_bytes
    assert entry.rows == 8


def test_a_committed_shard_is_reused_without_reading_a_frame(world: World, store: Store) -> None:
    write_world(world, store)
    first = write_first(world, store)
    counting = CountingStore(store)
    again = write_first(world, counting)
    assert (first.is_reused, again.is_reused) == (False, True)
    assert again.entry == first.entry
    assert {call[1] for call in counting.calls} == {REQUEST.path}
    assert not counting.named("put_new", "get")


def test_a_reused_shard_without_a_stored_sum_is_summed(world: World, store: Store) -> None:
    write_world(world, store)
    first = write_first(world, store)

    class Forgetful(CountingStore):
        def head(self, key: str) -> object:
            info = self.inner.head(key)
            return None if info is None else type(info)(info.key, info.size_bytes)

    assert write_first(world, Forgetful(store)).entry == first.entry


def test_a_committed_shard_of_other_length_is_not_reused(world: World, store: Store) -> None:
    write_world(world, store)
    write_first(world, store)
    with pytest.raises(VerificationError, match="holds 8 rows, its plan has 7"):
        write_shard(REQUEST, world.plan.slice(0, 7), world.addresses, store)


def test_another_writer_in_between_is_noticed_and_must_agree(world: World, store: Store) -> None:
    write_world(world, store)
    first = write_first(world, store)

    class Late(CountingStore):
        def head(self, key: str) -> None:
            return None

    raced = write_first(world, Late(store))
    assert raced.is_reused
    assert raced.entry == first.entry
    with pytest.raises(CommitError, match=first.entry.sha256):
        write_shard(REQUEST, world.plan.slice(8, 8), world.addresses, Late(store))


def test_a_shard_beyond_the_limit_is_refused_before_reading(world: World, store: Store) -> None:
    rows = world.addresses.to_pylist()
    for row in rows:
        row["frame_bytes"] = [30_000_000 for _ in row["frame_bytes"]]
    large = pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)
    counting = CountingStore(store)
    with pytest.raises(
        ConfigError, match=r"recipes\.l4\.shard_rows: 8 rows .* 1\.79 GiB.* set it to 4 or less"
    ):
        write_shard(REQUEST, world.plan.slice(0, 8), large, counting)
    assert not counting.named("get_range", "get", "put_new")


def test_scratch_space_is_left_clean_also_after_a_failure(world: World, store: Store, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(Exception, match="frames/"):
        write_first(world, store, scratch_dir=scratch)  # no tar was stored
    write_world(world, store)
    write_first(world, store, scratch_dir=scratch)
    assert list(scratch.iterdir()) == []
    assert store.head(REQUEST.path) is not None


def test_frames_of_few_row_groups_are_in_memory_at_once(store: Store) -> None:
    world = make_world(rows=40, clips_per_sample=1, frames_per_sample=2, image_px=24)
    write_world(world, store)
    under_way, most, lock = 0, 0, threading.Lock()

    class Watching(CountingStore):
        def get_range(self, key: str, start: int, stop: int) -> bytes:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            return self.inner.get_range(key, start, stop)

    real = pq.ParquetWriter.write_table

    def write_table(writer: pq.ParquetWriter, table: pa.Table, *args: object) -> None:
        nonlocal under_way
        with lock:
            under_way -= 1
        real(writer, table, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", write_table)
        request = ShardRequest("l1/x/train/epoch=0/shard-00000.parquet", "train", 0, 1)
        # a row is one clip, one range: ranges read and not yet written are row groups in memory
        write_shard(request, world.plan, world.addresses, Watching(store))
    assert 1 <= most <= 3
