"""Which row of the data set each slot of each global batch reads: arithmetic, no tables, no state.

Slot i of every batch reads its own lane: the row groups P(i), P(i + B), P(i + 2B), ... where P is a
keyed permutation of the full row groups (a Feistel network, drawn anew each epoch) and B the rows of
a global batch. Rows are shuffled inside windows of w consecutive groups of a lane.

    full groups   0 1 2 3 4 5 6 7 8 9   B = 4, P = identity      lane 0: 0 4 | lane 1: 1 5 | ...
    tail          8 9 + short groups    their rows are dealt to the B slots in contiguous ranges

A rank owns the slots [floor(rB/R), floor((r+1)B/R)), so any world size R <= B gives the same batches,
and each row group outside the tail is read by one rank. Every row comes once an epoch; only an
epoch's last batch may be smaller than B. The world size is no input: resuming on another is free.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

from weave_data.errors import ConfigError
from weave_train.order.addresses import GroupKey, RowAddress
from weave_train.order.permutation import order_key, permute

__all__ = ["EpochOrder", "TrainingOrder"]


class EpochOrder:
    """The batches of one pass over shards of known lengths.

    Args:
        shard_rows: Rows of each shard. A shard's groups are full except its last.
        row_group_rows: Rows of a full row group.
        batch_rows: B, rows of a global batch.
        window_groups: w, consecutive row groups of a lane whose rows are shuffled together.
        seed: Of the run.
        source_index: Of the data set; part of the addresses.
        data_epoch: Of the shards; part of the addresses.
    """

    def __init__(
        self,
        shard_rows: Sequence[int],
        *,
        row_group_rows: int,
        batch_rows: int,
        window_groups: int,
        seed: int,
        source_index: int = 0,
        data_epoch: int = 0,
    ) -> None:
        self._source_index = source_index
        self._data_epoch = data_epoch
        self.num_rows = sum(shard_rows)
        if not self.num_rows:
            raise ConfigError(
                "the data set holds no rows for this split; build it first or name another split"
            )
        self.batch_rows = batch_rows
        self._group_rows = row_group_rows
        self._window_groups = window_groups
        self._seed = seed
        self._full_before = [0]
        self._short_groups = []
        for shard_index, rows in enumerate(shard_rows):
            num_full, short = divmod(rows, row_group_rows)
            self._full_before.append(self._full_before[-1] + num_full)
            if short:
                self._short_groups.append((shard_index, num_full, short))
        self._num_full = self._full_before[-1]
        self._num_rounds = self._num_full // batch_rows
        self._main_steps = self._num_rounds * row_group_rows
        self._tail_full = self._num_full - self._num_rounds * batch_rows
        self._short_starts = [self._tail_full * row_group_rows]
        for _, _, short in self._short_groups:
            self._short_starts.append(self._short_starts[-1] + short)
        self._tail_rows = self._short_starts[-1]

    @property
    def num_steps(self) -> int:
        """Global batches of the epoch; the last may be smaller than B."""
        return self._main_steps + -(-self._tail_rows // self.batch_rows)

    def slots_at(self, step: int, slots: range) -> list[int]:
        """Those of `slots` that hold a row at this step: all, save in an epoch's last batch."""
        return [slot for slot in slots if step < self._main_steps or self._has_tail_row(step, slot)]

    def rows(self, step: int, *, epoch: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of one global batch, in slot order; only those of `slots` when given.

        Args:
            step: Within the epoch, in [0, num_steps).
            epoch: Counted from 0; another epoch is another permutation.
            slots: A rank's slots, or None for all.
        """
        slots = range(self.batch_rows) if slots is None else slots
        if step < self._main_steps:
            return [self._main_row(step, slot, epoch) for slot in slots]
        return [self._tail_row(step, slot, epoch) for slot in slots if self._has_tail_row(step, slot)]

    def _main_row(self, step: int, slot: int, epoch: int) -> RowAddress:
        window_rows = self._window_groups * self._group_rows
        window, offset = divmod(step, window_rows)
        rounds = min(self._window_groups, self._num_rounds - window * self._window_groups)
        key = order_key(self._seed, epoch, "rows", slot, window)
        place = permute(offset, size=rounds * self._group_rows, key=key)
        round_index = window * self._window_groups + place // self._group_rows
        return self._full_group_row(
            round_index * self.batch_rows + slot, place % self._group_rows, slot=slot, epoch=epoch
        )

    def _full_group_row(self, ordinal: int, row_index: int, *, slot: int, epoch: int) -> RowAddress:
        group = permute(ordinal, size=self._num_full, key=order_key(self._seed, epoch, "groups"))
        shard_index = bisect.bisect_right(self._full_before, group) - 1
        return self._address(slot, shard_index, group - self._full_before[shard_index], row_index, epoch)

    def _tail_range(self, slot: int) -> range:
        return range(
            slot * self._tail_rows // self.batch_rows, (slot + 1) * self._tail_rows // self.batch_rows
        )

    def _has_tail_row(self, step: int, slot: int) -> bool:
        return step - self._main_steps < len(self._tail_range(slot))

    def _tail_row(self, step: int, slot: int, epoch: int) -> RowAddress:
        position = self._tail_range(slot)[step - self._main_steps]
        window_rows = self._window_groups * self._group_rows
        window, offset = divmod(position, window_rows)
        size = min(window_rows, self._tail_rows - window * window_rows)
        place = permute(offset, size=size, key=order_key(self._seed, epoch, "tail", 0, window))
        group, row_index = divmod(window * window_rows + place, self._group_rows)
        if group < self._tail_full:
            ordinal = self._num_rounds * self.batch_rows + group
            return self._full_group_row(ordinal, row_index, slot=slot, epoch=epoch)
        place += window * window_rows
        short = bisect.bisect_right(self._short_starts, place) - 1
        shard_index, group_index, _ = self._short_groups[short]
        return self._address(slot, shard_index, group_index, place - self._short_starts[short], epoch)

    def _address(
        self, slot: int, shard_index: int, group_index: int, row_index: int, epoch: int
    ) -> RowAddress:
        group = GroupKey(self._source_index, self._data_epoch, shard_index, group_index)
        return RowAddress(slot, group, row_index, epoch)


class TrainingOrder:
    """Batches of a whole run: epoch after epoch, cycling over the epochs a data set stores.

    Args:
        epochs: One order per stored data epoch; training epoch e reads `epochs[e % len(epochs)]`.
    """

    def __init__(self, epochs: Sequence[EpochOrder]) -> None:
        self.epochs = tuple(epochs)
        self.batch_rows = self.epochs[0].batch_rows

    @classmethod
    def over(
        cls,
        shard_rows: Sequence[Sequence[int]],
        *,
        group_rows: int,
        batch_rows: int,
        window_groups: int,
        seed: int,
        source_index: int = 0,
    ) -> TrainingOrder:
        """Order over a data set.

        Args:
            shard_rows: Rows of each shard, for each stored epoch.
            group_rows: Rows of a full row group.
            batch_rows: B.
            window_groups: w.
            seed: Of the run.
            source_index: Of the data set; part of the addresses.
        """
        return cls(
            [
                EpochOrder(
                    rows,
                    row_group_rows=group_rows,
                    batch_rows=batch_rows,
                    window_groups=window_groups,
                    seed=seed,
                    source_index=source_index,
                    data_epoch=data_epoch,
                )
                for data_epoch, rows in enumerate(shard_rows)
            ]
        )

    def num_steps(self, num_epochs: int) -> int:
        """Global batches of the first `num_epochs` epochs."""
        cycles, rest = divmod(num_epochs, len(self.epochs))
        return cycles * self._cycle_steps + sum(order.num_steps for order in self.epochs[:rest])

    def locate(self, step: int) -> tuple[int, int]:
        """Epoch and step within it of a global step counted from 0."""
        cycles, rest = divmod(step, self._cycle_steps)
        for index, order in enumerate(self.epochs):
            if rest < order.num_steps:
                return cycles * len(self.epochs) + index, rest
            rest -= order.num_steps
        raise AssertionError(step)

    def rows(self, step: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of a global step's batch; see `EpochOrder.rows`."""
        epoch, epoch_step = self.locate(step)
        return self.order_of(epoch).rows(epoch_step, epoch=epoch, slots=slots)

    def slots_at(self, step: int, slots: range) -> list[int]:
        """Those of `slots` that hold a row at this global step."""
        epoch, epoch_step = self.locate(step)
        return self.order_of(epoch).slots_at(epoch_step, slots)

    def data_epoch(self, epoch: int) -> int:
        """Index of the stored data epoch that a training epoch reads."""
        return epoch % len(self.epochs)

    def order_of(self, epoch: int) -> EpochOrder:
        """Order of a training epoch."""
        return self.epochs[self.data_epoch(epoch)]

    @functools.cached_property
    def _cycle_steps(self) -> int:
        return sum(order.num_steps for order in self.epochs)
