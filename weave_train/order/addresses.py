"""Rows by address, slots by rank, and what every order can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from weave_data.errors import ConfigError

__all__ = ["BatchOrder", "GroupKey", "RowAddress", "rank_slots"]


class GroupKey(NamedTuple):
    """One row group: of which data set, of which of its stored epochs, in which shard."""

    source_index: int
    data_epoch: int
    shard_index: int
    group_index: int


@dataclass(frozen=True)
class RowAddress:
    """One row as a slot of a global batch reads it.

    Attributes:
        slot: In [0, B).
        group: Row group that holds it.
        row_index: Within the group.
        epoch: Training epoch of its data set, counted from 0: what is drawn anew each epoch is keyed
            by it.
    """

    slot: int
    group: GroupKey
    row_index: int
    epoch: int


class BatchOrder(Protocol):
    """Global batches of a run as a pure function of the step."""

    @property
    def batch_rows(self) -> int:
        """B."""

    def num_steps(self, num_epochs: int) -> int:
        """Global batches of the first `num_epochs` epochs."""

    def locate(self, step: int) -> tuple[int, int]:
        """Epoch and step within it of a global step counted from 0."""

    def rows(self, step: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of a global step's batch in slot order; only those of `slots` when given."""

    def slots_at(self, step: int, slots: range) -> list[int]:
        """Those of `slots` that hold a row at this global step."""


def rank_slots(rank: int, *, world_size: int, batch_rows: int) -> range:
    """Slots of the global batch that a rank owns: [floor(rB/R), floor((r+1)B/R)).

    Raises:
        ConfigError: More ranks than rows in a global batch.
    """
    if world_size > batch_rows:
        raise ConfigError(
            f"{world_size} processes for a global batch of {batch_rows} rows; every process needs a row: "
            "raise the global batch size or start fewer processes"
        )
    return range(rank * batch_rows // world_size, (rank + 1) * batch_rows // world_size)
