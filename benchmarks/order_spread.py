"""How evenly the order of training spreads rows: against a uniform shuffle, and against the window.

    python benchmarks/order_spread.py

position    a row's place in the epoch, over many epochs: chi-square per degree of freedom, 1 is uniform
crowding    rows of one row group in the same batch, of all pairs; uniform is 1 / steps
distance    steps between rows of one group, mean over all pairs: of what a uniform shuffle of the
            window gives, and of what one of the whole epoch gives
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from weave_train.order import EpochOrder, TrainingOrder


def steps_of_rows(order: EpochOrder, epoch: int, group_rows: int) -> np.ndarray:
    """int64[groups, group_rows]: step at which each row of a full group is read; -1 for the tail's."""
    steps = np.full((order.num_rows // group_rows, group_rows), -1)
    groups_per_shard = order.num_rows // group_rows // 8
    for step in range(order.num_steps):
        for row in order.rows(step, epoch=epoch):
            steps[row.group.shard_index * groups_per_shard + row.group.group_index, row.row_index] = step
    return steps


def make_order(num_rows: int, *, batch_rows: int, group_rows: int, window_groups: int) -> EpochOrder:
    return EpochOrder(
        [num_rows // 8] * 8,
        row_group_rows=group_rows,
        batch_rows=batch_rows,
        window_groups=window_groups,
        seed=7,
    )


def position_chi_square(num_epochs: int, bins: int = 8) -> float:
    """Over rows: chi-square of a row's eighth of the epoch, over epochs, per degree of freedom."""
    order = make_order(2048, batch_rows=8, group_rows=16, window_groups=4)
    counts = np.zeros((2048, bins))
    for epoch in range(num_epochs):
        eighth = steps_of_rows(order, epoch, 16).ravel() * bins // order.num_steps
        counts[np.arange(2048), eighth] += 1
    expected = num_epochs / bins
    return float(((counts - expected) ** 2 / expected).sum() / (2048 * (bins - 1)))


def mates(window_groups: int) -> tuple[int, float, float, float]:
    """Steps, crowding, distance of the window's and of the epoch's uniform."""
    batch_rows, group_rows, num_rows = 64, 16, 131_072
    order = make_order(num_rows, batch_rows=batch_rows, group_rows=group_rows, window_groups=window_groups)
    steps = steps_of_rows(order, 0, group_rows)
    pairs = np.array(
        [np.abs(steps[:, a] - steps[:, b]) for a, b in itertools.combinations(range(group_rows), 2)]
    )
    window_steps = min(window_groups * group_rows, order.num_steps)
    # |x - y| of two different places out of n: (n + 1) / 3
    return (
        order.num_steps,
        float((pairs == 0).mean()),
        float(pairs.mean() / ((window_steps + 1) / 3)),
        float(pairs.mean() / ((order.num_steps + 1) / 3)),
    )


def main() -> None:
    print(f"position, 2,048 rows, 400 epochs: chi-square / dof {position_chi_square(400):.3f}")
    for window_groups in (1, 4, 16, 128):
        steps, crowding, of_window, of_epoch = mates(window_groups)
        print(
            f"w = {window_groups:3}: {steps} steps, in one batch {crowding:.5f}, uniform {1 / steps:.5f}; "
            f"distance {of_window:.3f} of the window's, {of_epoch:.3f} of the epoch's"
        )
    begin = time.perf_counter()
    order = TrainingOrder.over([[1024] * 97_657], group_rows=16, batch_rows=1024, window_groups=4, seed=7)
    opened = time.perf_counter()
    order.rows(100_000_000 // 1024 - 1)
    print(
        f"100,000,768 rows: order {opened - begin:.3f} s, batch at row 100,000,000 "
        f"{time.perf_counter() - opened:.3f} s"
    )


if __name__ == "__main__":
    main()
