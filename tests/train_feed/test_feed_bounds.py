"""What a feed says about itself, and how long it waits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from builders import write_woven_dataset
from training_runs import Training

from weave_data.errors import ConfigError, StoreError
from weave_train.config import ModelSettings, PretrainConfig, load_pretrain_config, parse_flags
from weave_train.feed import FeedLimits, RowFeed, check_stored_size, feed_limits, open_source
from weave_train.feed.threads import DaemonPool
from weave_train.order import TrainingOrder


class HangingSource:
    """Row groups of four numbers; one group never comes."""

    fingerprint, split, group_rows, shard_rows = "0" * 64, "train", 4, ((16,),)

    def __init__(self, hangs_at: int | None = None) -> None:
        self.hangs_at = hangs_at
        self.released = threading.Event()

    def read(self, data_epoch: int, shard_index: int, group_index: int, *, epoch: int) -> pa.Table:
        if group_index == self.hangs_at:
            self.released.wait()
        return pa.table({"number": range(group_index * 4, group_index * 4 + 4)})

    def describe(self) -> dict[str, str]:
        return {}


def make_feed(source, *, encode=lambda row: row["number"], **limits) -> RowFeed:
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=2, window_groups=1, seed=3
    )
    return RowFeed([source], order, slots=range(2), encode=encode, stop_step=8, limits=FeedLimits(**limits))


def test_rows_that_do_not_come_are_an_error_that_names_group_and_step() -> None:
    source = HangingSource(hangs_at=2)
    source.read(0, 0, 0, epoch=0).to_pylist()  # what pyarrow imports at first takes seconds on a busy machine
    feed = make_feed(source, stall_timeout_s=2.0, num_readers=2)
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"row group 2: its row for step \d did not come within 2 s"):
        list(map(feed.batch, range(8)))
    assert time.monotonic() - begin < 30
    source.released.set()
    feed.close()


def test_a_time_out_of_the_encoder_is_not_taken_for_a_stall() -> None:
    def fail(row):
        raise TimeoutError("the decoder gave up")

    feed = make_feed(HangingSource(), encode=fail)
    with pytest.raises(TimeoutError, match="the decoder gave up"):
        feed.batch(0)
    feed.close()


def test_stats_are_sums_since_the_last_call() -> None:
    def encode(row):
        time.sleep(0.01)  # work that takes time
        return row["number"]

    feed = make_feed(HangingSource(), encode=encode)
    numbers = [number for step in range(8) for number in feed.batch(step)]
    feed.close()
    stats = feed.take_stats()
    assert sorted(numbers) == list(range(16))
    assert stats.num_reads == 4
    assert stats.encode_seconds >= 16 * 0.01
    assert stats.wait_seconds > 0
    assert stats.read_seconds > 0
    again = feed.take_stats()
    assert (again.num_reads, again.encode_seconds, again.wait_seconds) == (0, 0.0, 0.0)


def test_bytes_are_counted_where_they_are_received(tmp_path: Path) -> None:
    uri = write_woven_dataset(tmp_path, rows=16, clips_per_sample=1, frames_per_sample=2, image_px=16)
    source = open_source(uri, split="train")
    feed = make_feed(source, encode=dict)
    for step in range(8):
        feed.batch(step)
    feed.close()
    stats = feed.take_stats()
    (shard,) = source.manifest.shards
    groups_bytes = shard.footer_offset - len(b"PAR1")
    num_footers = (stats.read_bytes - groups_bytes) / shard.footer_bytes
    assert num_footers in range(1, 5)  # threads that start together may each ask for it
    assert stats.num_retries == 0


def test_groups_are_read_ahead_of_the_steps_that_are_encoded() -> None:
    source = HangingSource(hangs_at=99)
    read = [threading.Event() for _ in range(4)]
    inner = source.read

    def noting(data_epoch, shard_index, group_index, *, epoch):
        table = inner(data_epoch, shard_index, group_index, epoch=epoch)
        read[group_index].set()
        return table

    source.read = noting
    feed = make_feed(source, prefetch_steps=1)
    feed.batch(0)
    assert all(event.wait(60) for event in read)  # step 0 needs two of the four
    feed.close()


def test_reading_ahead_stops_where_memory_does() -> None:
    source = HangingSource()
    feed = make_feed(source, max_memory_mib=0)
    numbers = [number for step in range(8) for number in feed.batch(step)]
    assert sorted(numbers) == list(range(16))
    assert feed.held_bytes <= 4 * 8  # the group that was read last
    feed.close()
    assert feed.take_stats().num_reads > 4


def test_a_pool_that_is_closed_waits_for_no_hung_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weave_train.feed.threads._EXIT_SECONDS", 0.1)
    hang = threading.Event()
    pool = DaemonPool(1, name="test")
    pool.submit(hang.wait)
    waiting = pool.submit(int)
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 10
    assert waiting.cancelled()
    hang.set()


@pytest.mark.process
def test_a_process_with_a_hung_read_ends_with_its_error() -> None:
    program = """
import sys; sys.path[:0] = sys.argv[1:]
from test_feed_bounds import HangingSource, make_feed
feed = make_feed(HangingSource(hangs_at=1), stall_timeout_s=0.5)
list(map(feed.batch, range(8)))
"""
    folder = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(folder.parent), str(folder.parents[1])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("weave_data.errors.StoreError: ")
    assert "Fatal Python error" not in ended.stderr


@pytest.mark.parametrize(("stored_px", "is_refused"), [(31, True), (32, False), (64, False)])
def test_frames_are_not_scaled_up_unasked(tmp_path: Path, stored_px: int, is_refused: bool) -> None:
    uri = write_woven_dataset(tmp_path, rows=4, clips_per_sample=1, frames_per_sample=1, image_px=stored_px)
    source, settings = open_source(uri, split="train"), ModelSettings(vision_backbone_id="video-tiny-vit")
    check_stored_size(source, settings, allow_upscaling=True)
    if not is_refused:
        check_stored_size(source, settings, allow_upscaling=False)
        return
    with pytest.raises(ConfigError, match=r"short side of 31 px, video-tiny-vit takes 32 px; .*allow_upscal"):
        check_stored_size(source, settings, allow_upscaling=False)


def test_flags_of_the_feed_reach_it() -> None:
    given = {
        "max_memory_mib": 77,
        "read_timeout_s": 3.5,
        "stall_timeout_s": 4.5,
        "cache_dir": "x",
        "cache_gib": 2.5,
    }
    flags = [word for name, value in given.items() for word in (f"--feed.{name}", str(value))]
    base = ["--dataset.manifest", "a/manifest.json", "--model.type", "tiny", "--num_workers", "3"]
    limits = feed_limits(load_pretrain_config(parse_flags([*base, *flags], model=PretrainConfig)))
    assert {name: getattr(limits, name) for name in given} == given
    assert limits.num_workers == 3


@pytest.mark.process
def test_pretrain_honours_the_flags_of_the_feed(tmp_path: Path) -> None:
    small = write_woven_dataset(
        tmp_path / "woven", rows=18, clips_per_sample=1, frames_per_sample=2, image_px=16
    )
    training = Training(small, tmp_path / "runs")
    refused = training.alone("a", "--max_steps", "2")
    assert refused.returncode == 2
    assert "short side of 16 px, video-tiny-vit takes 32 px" in refused.stderr
    cache = tmp_path / "cache"
    flags = ["--feed.allow_upscaling", "true", "--feed.cache_dir", str(cache), "--feed.max_memory_mib", "1"]
    done = training.alone("b", "--stop_after_steps", "2", *flags)
    assert done.returncode == 0, done.stderr
    assert len(list(cache.glob("*/*.group"))) == 5
