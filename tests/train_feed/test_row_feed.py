"""Rows arrive in order, whoever reads them and however far ahead."""

from __future__ import annotations

import collections
import itertools
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from builders import CountingStore, make_world, publish_world, write_woven_dataset

from weave_data.errors import ConfigError, StoreError
from weave_data.shard import iter_rows
from weave_data.storage import open_store
from weave_train.feed import FeedLimits, RowFeed, WovenSource, open_source
from weave_train.order import GroupKey, TrainingOrder, rank_slots

BATCH_ROWS = 7


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> WovenSource:
    root = tmp_path_factory.mktemp("woven")
    uri = write_woven_dataset(
        root,
        rows=75,
        clips_per_sample=1,
        frames_per_sample=1,
        image_px=16,
        shard_rows=24,
        row_group_rows=4,
        val_rows=5,
    )
    return open_source(uri, split="train")


@pytest.fixture(scope="module")
def order(source: WovenSource) -> TrainingOrder:
    return TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=BATCH_ROWS, window_groups=2, seed=3
    )


class CountingReader:
    """Counts reads of each group; fails from a read on where told to."""

    def __init__(self, source: WovenSource, *, fail_at: int | None = None) -> None:
        self.source = source
        self.reads: collections.Counter[tuple[int, int, int]] = collections.Counter()
        self.fail_at = fail_at
        self.lock = threading.Lock()

    def read(self, data_epoch: int, shard_index: int, group_index: int, *, epoch: int):
        with self.lock:
            self.reads[data_epoch, shard_index, group_index] += 1
            if self.fail_at is not None and self.reads.total() >= self.fail_at:
                raise StoreError("shard-00001.parquet: the store went away")
        return self.source.read(data_epoch, shard_index, group_index, epoch=epoch)


def make_feed(
    source, order, *, workers: int, rank: int = 0, world: int = 1, stop_step: int | None = None, **limits
) -> RowFeed[str]:
    return RowFeed(
        [source],
        order,
        slots=rank_slots(rank, world_size=world, batch_rows=BATCH_ROWS),
        encode=lambda row: row["sample_id"],
        stop_step=order.num_steps(2) if stop_step is None else stop_step,
        limits=FeedLimits(num_workers=workers, prefetch_steps=3, **limits),
    )


def all_batches(
    source, order, *, workers: int, rank: int = 0, world: int = 1, start: int = 0
) -> list[list[str]]:
    feed = make_feed(source, order, workers=workers, rank=rank, world=world)
    try:
        return [feed.batch(step) for step in range(start, order.num_steps(2))]
    finally:
        feed.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(source, order, workers) -> None:
    assert all_batches(source, order, workers=workers) == all_batches(source, order, workers=0)


def test_an_epoch_gives_every_sample_once(source, order) -> None:
    ids = [row.sample_id for row in iter_rows(source.store, source.manifest, split="train")]
    batches = all_batches(source, order, workers=2)
    for epoch in range(2):
        first = epoch * order.num_steps(1)
        seen = [name for batch in batches[first : first + order.num_steps(1)] for name in batch]
        assert sorted(seen) == sorted(ids)


def test_ranks_together_read_the_batch_of_one(source, order) -> None:
    alone = all_batches(source, order, workers=0)
    parts = [all_batches(source, order, workers=2, rank=rank, world=3) for rank in range(3)]
    assert [list(itertools.chain(*rows)) for rows in zip(*parts, strict=True)] == alone


def test_a_feed_that_starts_later_goes_on_where_another_stopped(source, order) -> None:
    assert all_batches(source, order, workers=2, start=9) == all_batches(source, order, workers=0)[9:]


def group_range(source: WovenSource, group: GroupKey) -> tuple[str, int, int]:
    """Key and bytes of one row group."""
    counting = CountingStore(source.store)
    replace(source, store=counting).read(*group[1:], epoch=0)
    (*_, (_, key, start, stop)) = counting.named("get_range")
    return key, start, stop


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_byte_outside_the_tail_is_read_twice_by_all_ranks_together(source, order, world, workers) -> None:
    counting = CountingStore(source.store)
    counted, num_steps = replace(source, store=counting), order.num_steps(1)
    for rank in range(world):
        feed = make_feed(counted, order, workers=workers, rank=rank, world=world, stop_step=num_steps)
        for step in range(num_steps):
            feed.batch(step)
        feed.close()
    footers = {(shard.path, shard.footer_offset) for shard in source.epochs[0]}
    calls = [call[1:] for call in counting.named("get_range") if call[1:3] not in footers]
    reads = collections.Counter(calls)
    num_rounds = 18 // BATCH_ROWS  # 75 rows: 18 full row groups and one of 3 rows
    main = {row.group for step in range(num_rounds * source.group_rows) for row in order.rows(step)}
    assert len(main) == num_rounds * BATCH_ROWS
    assert [reads[group_range(source, group)] for group in main] == [1] * len(main)
    assert len(reads) == 19
    assert max(reads.values()) <= world  # a group of the tail may be dealt to every rank


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_is_bounded_and_costs_only_reads(source, order, workers) -> None:
    reader = CountingReader(source)
    group_bytes = max(source.read(0, 0, index, epoch=0).nbytes for index in range(6))
    feed = make_feed(reader, order, workers=workers, max_memory_mib=2.1 * group_bytes / (1 << 20))
    batches, held = [], []
    for step in range(order.num_steps(1)):
        batches.append(feed.batch(step))
        held.append(feed.held_bytes)
    feed.close()
    assert 0 < max(held) <= 2.1 * group_bytes
    assert batches == all_batches(source, order, workers=0)[: order.num_steps(1)]
    assert reader.reads.total() > 19


def test_a_run_goes_through_the_epochs_that_were_woven_one_after_the_other(tmp_path: Path) -> None:
    world = make_world(
        rows=30, clips_per_sample=1, frames_per_sample=1, image_px=16, num_epochs=2, recipe="woven-twice"
    )
    publish_world(world, open_store(str(tmp_path)))
    source = open_source(str(tmp_path / "woven-twice"), split="train")
    stored = [
        {row.sample_id for row in iter_rows(source.store, source.manifest, split="train", epoch=epoch)}
        for epoch in range(2)
    ]
    assert len(stored[0]) == len(stored[1]) == 30
    assert stored[0].isdisjoint(stored[1])
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=BATCH_ROWS, window_groups=2, seed=3
    )
    feed = make_feed(source, order, workers=2, stop_step=order.num_steps(3))
    for epoch, expected in enumerate([*stored, stored[0]]):  # the third begins again
        steps = range(order.num_steps(epoch), order.num_steps(epoch + 1))
        names = [name for step in steps for name in feed.batch(step)]
        assert len(names) == 30
        assert set(names) == expected
    feed.close()


def test_rows_leave_memory_as_they_are_taken(source, order) -> None:
    feed = make_feed(source, order, workers=0)
    for step in range(order.num_steps(1)):
        feed.batch(step)
    assert feed.held_bytes == 0
    assert feed.batch(3) == make_feed(source, order, workers=0).batch(3)  # taken before: read again


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_error_reaches_the_step_that_needs_the_row(source, order, workers) -> None:
    feed = make_feed(CountingReader(source, fail_at=6), order, workers=workers)
    with pytest.raises(StoreError, match="the store went away"):
        list(map(feed.batch, range(order.num_steps(1))))
    feed.close()


def test_a_split_that_is_not_there_is_named(source, tmp_path: Path) -> None:
    uri = write_woven_dataset(tmp_path, rows=4, clips_per_sample=1, frames_per_sample=1, image_px=16)
    with pytest.raises(ConfigError, match="no split 'val'; it has train"):
        open_source(uri, split="val")
