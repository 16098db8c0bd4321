"""Several data sets in every global batch, each with a fixed number of slots.

    slots 3 + 1 of 8 twice:  A A B A  A A B A     a range of slots holds the data sets in proportion,
                             rank 0   rank 1      so every rank reads of each what its share is

A data set's slots are a batch of its own order: it has its own epochs, begins again when it is through,
and neither its order nor its place in it depends on the others. An epoch of the run is an epoch of the
data set whose epoch has the most steps. Where an epoch's last batch of a data set is short, its other
slots are empty at that step.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weave_data.errors import ConfigError
from weave_train.order.addresses import BatchOrder, RowAddress

__all__ = ["MixtureOrder", "MixturePart", "deal_slots"]


@dataclass(frozen=True)
class MixturePart:
    """One data set of a mixture.

    Attributes:
        order: Of its rows; its batches are `slots` rows.
        slots: Rows of every global batch that are its own.
    """

    order: BatchOrder
    slots: int


class MixtureOrder:
    """Batches in which each data set has its slots.

    Args:
        parts: At least one; the global batch is the sum of their slots.

    Raises:
        ConfigError: No part, or a part whose order has other batches than its slots.
    """

    def __init__(self, parts: Sequence[MixturePart]) -> None:
        if not parts:
            raise ConfigError("dataset.mixture: names no data set; give at least one")
        for index, part in enumerate(parts):
            if part.order.batch_rows != part.slots:
                raise ConfigError(
                    f"dataset.mixture: data set {index} has {part.slots} slots and an order in batches of "
                    f"{part.order.batch_rows} rows; both must be equal"
                )
        self.parts = tuple(parts)
        self.batch_rows = sum(part.slots for part in parts)
        dealt = deal_slots([part.slots for part in parts])
        self._slots = [[slot for slot, owner in enumerate(dealt) if owner == k] for k in range(len(parts))]
        self._longest = max(parts, key=lambda part: part.order.num_steps(1)).order

    def num_steps(self, num_epochs: int) -> int:
        """Global batches of the first `num_epochs` epochs of the data set with the longest epoch."""
        return self._longest.num_steps(num_epochs)

    def locate(self, step: int) -> tuple[int, int]:
        """Epoch of the run, and step within it, of a global step counted from 0."""
        return self._longest.locate(step)

    def rows(self, step: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of a global step's batch in slot order; `epoch` is that of the row's own data set."""
        slots = range(self.batch_rows) if slots is None else slots
        found = [
            replace(row, slot=owned[row.slot])
            for part, owned, inner in self._inner(slots)
            for row in part.order.rows(step, inner)
        ]
        return sorted(found, key=lambda row: row.slot)

    def slots_at(self, step: int, slots: range) -> list[int]:
        """Those of `slots` that hold a row at this global step."""
        return sorted(
            owned[slot]
            for part, owned, inner in self._inner(slots)
            for slot in part.order.slots_at(step, inner)
        )

    def _inner(self, slots: range) -> list[tuple[MixturePart, list[int], range]]:
        """Each part, its slots of the global batch, and which of them lie in a range of the batch."""
        return [
            (
                part,
                owned,
                range(bisect.bisect_left(owned, slots.start), bisect.bisect_left(owned, slots.stop)),
            )
            for part, owned in zip(self.parts, self._slots, strict=True)
        ]


def deal_slots(counts: Sequence[int]) -> list[int]:
    """Which data set each slot of a global batch belongs to.

    Any first s of the B slots hold of each data set less than one slot more or less than its share
    s * count / B, so any contiguous range less than two.

    Args:
        counts: Slots of each data set, at least 1.

    Returns:
        B indices of data sets. [6, 2] -> [0, 0, 1, 0, 0, 0, 1, 0]

    Source:
        Baruah et al. 1996, "Proportionate progress": each slot is a job with a release and a deadline,
        and the earliest deadline goes first.
    """
    total = sum(counts)
    taken = [0] * len(counts)
    dealt = []
    for slot in range(total):
        released = [
            (-(-(taken[k] + 1) * total // count), k)  # deadline, data set
            for k, count in enumerate(counts)
            if taken[k] < count and taken[k] * total // count <= slot
        ]
        owner = min(released)[1]
        taken[owner] += 1
        dealt.append(owner)
    return dealt
