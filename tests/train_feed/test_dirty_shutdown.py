"""A feed that is killed at any moment leaves nothing that keeps the next one from going on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from builders import write_woven_dataset

from weave_train.feed import FeedLimits, RowFeed, open_source
from weave_train.feed.disk_cache import DiskCache
from weave_train.order import TrainingOrder

pytestmark = pytest.mark.process

CHILD = Path(__file__).parent / "feed_child.py"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("shutdown")
    return write_woven_dataset(root, rows=60, clips_per_sample=1, frames_per_sample=2, image_px=16)


def run_until(signal_number: int, num_lines: int, arguments: list[str]) -> list[str]:
    """Start a child, stop it after some lines; those lines."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(CHILD), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        lines = [child.stdout.readline() for _ in range(num_lines)]
        started = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal_number)
        child.stdout.read()
        errors = child.stderr.read()
        child.wait(timeout=120)
    assert started == []
    assert all(lines), errors
    assert "Fatal Python error" not in errors
    assert child.returncode != 0
    return [line.strip() for line in lines]


def expected(uri: str, num_steps: int) -> list[str]:
    source = open_source(uri, split="train")
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=4, window_groups=2, seed=3
    )
    feed = RowFeed(
        [source],
        order,
        slots=range(4),
        encode=lambda row: row["sample_id"],
        stop_step=num_steps,
        limits=FeedLimits(num_workers=0),
    )
    return [" ".join([str(step), *feed.batch(step)]) for step in range(num_steps)]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_feed_starts_again_at_once_twice(uri: str, tmp_path: Path, signal_number: int) -> None:
    truth = expected(uri, 200)
    draw, step = random.Random(7), 0
    for _ in range(3):
        num_lines = draw.randrange(1, 40)
        lines = run_until(signal_number, num_lines, [uri, str(tmp_path / "cache"), str(step)])
        assert lines == truth[step : step + num_lines]
        step += num_lines
    cache = DiskCache(tmp_path / "cache", max_bytes=1 << 30)
    entries = list((tmp_path / "cache").glob("*/*.group"))
    assert entries
    assert all(cache.get(path.stem) is not None for path in entries)  # whole or not there
