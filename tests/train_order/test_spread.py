"""Rows of one group are far from each other, and a place is found at once in any data set."""

from __future__ import annotations

import itertools
import time

import numpy as np

from weave_data.shard import ShardEntry
from weave_train.order import EpochOrder, TrainingOrder

GROUP_ROWS, BATCH_ROWS, WINDOW_GROUPS = 16, 8, 4
ROWS = 2048


def steps_of_rows(epoch: int) -> np.ndarray:
    """int64[groups, group_rows]: the step at which each row is read."""
    order = EpochOrder(
        [ROWS // 4] * 4,
        row_group_rows=GROUP_ROWS,
        batch_rows=BATCH_ROWS,
        window_groups=WINDOW_GROUPS,
        seed=5,
    )
    steps = np.full((ROWS // GROUP_ROWS, GROUP_ROWS), -1)
    for step in range(order.num_steps):
        for row in order.rows(step, epoch=epoch):
            group = row.group.shard_index * (ROWS // 4 // GROUP_ROWS) + row.group.group_index
            steps[group, row.row_index] = step
    return steps


def test_mates_of_a_row_group_are_as_far_apart_as_a_shuffled_window_allows() -> None:
    steps = steps_of_rows(0)
    pairs = np.array([np.abs(steps[:, a] - steps[:, b]) for a, b in itertools.combinations(range(16), 2)])
    window_steps = WINDOW_GROUPS * GROUP_ROWS
    assert pairs.min() > 0  # never in one batch
    assert pairs.max() < window_steps
    # two different places out of n are (n + 1) / 3 apart
    assert 0.9 < pairs.mean() / ((window_steps + 1) / 3) < 1.1


def test_a_row_is_anywhere_in_the_epoch() -> None:
    """Chi-square of the eighth in which each row is read, over epochs."""
    num_epochs = 16
    counts = np.zeros((ROWS, 8))
    for epoch in range(num_epochs):
        counts[np.arange(ROWS), steps_of_rows(epoch).ravel() * 8 * BATCH_ROWS // ROWS] += 1
    expected = num_epochs / 8
    per_degree = ((counts - expected) ** 2 / expected).sum() / (ROWS * 7)
    assert 0.9 < per_degree < 1 / 0.9  # rows of a group move together: its deviation is about 0.05


def test_the_place_of_row_one_hundred_million_takes_no_time() -> None:
    shards = [ShardEntry(f"shard-{i:05d}", "train", 0, 1024, 1 << 28, "", 0, 0) for i in range(97_657)]
    begin = time.process_time()
    order = TrainingOrder.over(
        [[shard.rows for shard in shards]], group_rows=16, batch_rows=1024, window_groups=4, seed=7
    )
    step = 100_000_000 // 1024 - 1
    assert order.locate(step) == (0, step)
    assert len(order.rows(step)) == 1024
    assert time.process_time() - begin < 1.0
