"""Row groups on disk: whole or not there, bounded, shared, and never another's."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from builders import make_world, publish_world, write_woven_dataset

from weave_data.errors import ConfigError
from weave_data.storage import open_store
from weave_train.feed import FeedLimits, RowFeed, open_source
from weave_train.feed.disk_cache import DiskCache
from weave_train.order import TrainingOrder

SIZE = 10_000


def table(seed: int = 0) -> pa.Table:
    return pa.table({"frames": [[bytes([seed]) * (SIZE // 2), bytes([seed + 1]) * (SIZE // 2)]]})


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.group"))


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "a" / "b", max_bytes=1 << 20)
    assert cache.get("ab-0") is None
    cache.put("ab-0", table())
    assert cache.get("ab-0").equals(table())
    assert DiskCache(tmp_path / "a" / "b", max_bytes=1 << 20).get("ab-0").equals(table())


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros"])
def test_a_damaged_entry_is_not_there_and_is_removed(tmp_path: Path, damage: str) -> None:
    cache = DiskCache(tmp_path, max_bytes=1 << 20)
    cache.put("ab-0", table())
    (path,) = entries(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    spoiled = {"flip": bytes(data), "cut": bytes(data[:200]), "empty": b"", "zeros": bytes(len(data))}
    path.write_bytes(spoiled[damage])
    assert cache.get("ab-0") is None
    assert entries(tmp_path) == []


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=10 * SIZE)
    for index in range(8):
        cache.put(f"ab-{index}", table())
        os.utime(tmp_path / "ab" / f"ab-{index}.group", (1000 + index, 1000 + index))
    assert cache.get("ab-0") is not None  # used now
    for index in range(8, 12):
        cache.put(f"ab-{index}", table())
    kept = {path.stem for path in entries(tmp_path)}
    assert {"ab-0", "ab-11"} <= kept
    assert not {"ab-1", "ab-2", "ab-3"} & kept


def test_many_writers_stay_within_the_limit(tmp_path: Path) -> None:
    caches = [DiskCache(tmp_path, max_bytes=30 * SIZE) for _ in range(4)]

    def fill(rank: int) -> None:
        for index in range(40):
            caches[rank].put(f"{rank}{rank}-{index}", table(rank))
            found = caches[rank].get(f"00-{index}")
            assert found is None or found.equals(table(0))

    threads = [threading.Thread(target=fill, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10 * SIZE < sum(path.stat().st_size for path in entries(tmp_path)) <= 30 * SIZE


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    left, writing = tmp_path / ".writing-old", tmp_path / ".writing-now"
    for path in (left, writing):
        path.write_bytes(b"half")
    os.utime(left, (1000, 1000))
    DiskCache(tmp_path, max_bytes=1 << 20)
    assert not left.exists()
    assert writing.exists()


def test_a_directory_that_can_not_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="feed.cache_dir: .*file.*; give a writable one"):
        DiskCache(tmp_path / "file", max_bytes=1 << 20)


def test_a_full_disk_costs_a_warning_and_an_entry(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=1 << 20)
    (tmp_path / "ab").write_bytes(b"in the way")
    with pytest.warns(UserWarning, match="not kept"):
        cache.put("ab-0", table())
    assert cache.get("ab-0") is None
    assert list(tmp_path.glob(".writing-*")) == []


def test_a_table_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=SIZE // 2)
    cache.put("ab-0", table())
    assert entries(tmp_path) == []


def read_all(uri: str, limits: FeedLimits) -> tuple[list, RowFeed]:
    source = open_source(uri, split="train")
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=4, window_groups=2, seed=3
    )
    feed = RowFeed([source], order, slots=range(4), encode=dict, stop_step=6, limits=limits)
    try:
        return list(itertools.chain.from_iterable(map(feed.batch, range(6)))), feed
    finally:
        feed.close()


@pytest.mark.parametrize("pixels", ["inline", "reference"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_run_reads_nothing_from_the_store(tmp_path: Path, pixels: str, workers: int) -> None:
    world = make_world(rows=24, clips_per_sample=1, frames_per_sample=2, image_px=16)
    world.configuration["recipe"]["pixels"] = pixels
    manifest = publish_world(world, open_store(str(tmp_path / "woven")))
    uri = str(tmp_path / "woven" / "l4")
    limits = FeedLimits(num_workers=workers, cache_dir=str(tmp_path / "cache"))
    first, feed = read_all(uri, limits)
    stats = feed.take_stats()
    assert (stats.num_reads, stats.cache_hits) == (6, 0)
    assert stats.read_bytes > 0
    for shard in manifest.shards:
        (tmp_path / "woven" / shard.path).unlink()
    second, feed = read_all(uri, limits)
    stats = feed.take_stats()
    assert (stats.num_reads, stats.cache_hits, stats.read_bytes) == (6, 6, 0)
    assert second == first


def test_equal_places_of_other_data_are_other_entries(tmp_path: Path) -> None:
    limits = FeedLimits(cache_dir=str(tmp_path / "cache"))
    uris = [
        write_woven_dataset(
            tmp_path / name, rows=24, clips_per_sample=1, frames_per_sample=2, image_px=16, seed=seed
        )
        for name, seed in (("a", 1), ("b", 2))
    ]
    for uri in uris:
        assert read_all(uri, limits)[0] == read_all(uri, FeedLimits())[0]
