"""Which rows a validation pass reads: the first of a data set, in stored order, shared among the ranks."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from weave_data.errors import ConfigError
from weave_train.order import GroupKey, RowAddress

__all__ = ["ValidationOrder"]


class ValidationOrder:
    """A rank reads one run of consecutive rows, so that a row group is read by one rank, or two.

    Stored order is already a random one, so the first rows stand for all. Every rank takes the same
    number of steps; some of its slots, or all, may be empty in the last.

    Args:
        shard_rows: Rows of each shard; a shard's groups are full except its last.
        group_rows: Rows of a full row group.
        rank_rows: Rows of one rank's step; rank r owns the slots [r * rank_rows, (r + 1) * rank_rows).
        world_size: Ranks.
        max_rows: Rows of the pass, at most; None: all.

    Raises:
        ConfigError: There are no rows.
    """

    def __init__(
        self,
        shard_rows: Sequence[int],
        *,
        group_rows: int,
        rank_rows: int,
        world_size: int,
        max_rows: int | None = None,
    ) -> None:
        self._starts = [0, *itertools.accumulate(shard_rows)]
        self._group_rows = group_rows
        self._rank_rows = rank_rows
        self._world_size = world_size
        stored = self._starts[-1]
        self.num_rows = stored if max_rows is None else min(stored, max_rows)
        if not self.num_rows:
            raise ConfigError("val_dataset: holds no rows for this split; name another split")

    @property
    def batch_rows(self) -> int:
        """Rows of all ranks' steps."""
        return self._rank_rows * self._world_size

    def num_steps(self, num_epochs: int = 1) -> int:
        """Steps of as many passes."""
        most = max(len(self._range(rank)) for rank in range(self._world_size))
        return num_epochs * -(-most // self._rank_rows)

    def locate(self, step: int) -> tuple[int, int]:
        """Pass and step within it; every pass is the same."""
        return divmod(step, self.num_steps())

    def slots_at(self, step: int, slots: range) -> list[int]:
        """Those of `slots` that hold a row at this step."""
        return [slot for slot in slots if self._position(step, slot) is not None]

    def rows(self, step: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of a step's rows in slot order; only those of `slots` when given."""
        found = []
        for slot in range(self.batch_rows) if slots is None else slots:
            position = self._position(step, slot)
            if position is not None:
                found.append(self._address(slot, position))
        return found

    def _range(self, rank: int) -> range:
        return range(rank * self.num_rows // self._world_size, (rank + 1) * self.num_rows // self._world_size)

    def _position(self, step: int, slot: int) -> int | None:
        rank, place = divmod(slot, self._rank_rows)
        _, pass_step = self.locate(step)
        rows, index = self._range(rank), pass_step * self._rank_rows + place
        return rows[index] if index < len(rows) else None

    def _address(self, slot: int, position: int) -> RowAddress:
        shard_index = bisect.bisect_right(self._starts, position) - 1
        group_index, row_index = divmod(position - self._starts[shard_index], self._group_rows)
        # epoch 0 always: what draws frames anew each epoch draws the same ones in every pass
        return RowAddress(slot, GroupKey(0, 0, shard_index, group_index), row_index, 0)
