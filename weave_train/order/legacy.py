"""VideoWeave's own order (`--order legacy`): batches of one modality, grouped by length.

    all rows -> shuffled visual | shuffled text only -> chunks of B, the last filled up from the first
             -> each chunk sorted by length and dealt to R ranks -> chunks shuffled, the longest first

The whole order of an epoch is a table of 8 bytes a row, made at its first step. Which rows a global
batch holds does not depend on the number of ranks, which rank reads them does; any rank may read any
row group, so woven shards are read many times over. Rows repeat where a last chunk is filled up.

Source:
    `SplitModalitySampler` of VideoWeave and Prismatic (`util/batching_utils.py`), after LLaVA's sampler:
    the same batches in the same order, bit for bit. Differs where that stops: a data set without visual
    rows is in order, and a modality with fewer rows than half a batch repeats them until a batch is full.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weave_data.errors import ConfigError
from weave_train.order.addresses import GroupKey, RowAddress

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LegacyOrder", "split_modality_batches"]

_VISUAL_LENGTH = 24 * 24
"""What the original adds to the length of every visual row, whatever the tower and the frames."""

_FULL = np.iinfo(np.int64).max


class LegacyOrder:
    """Batches of a run in the order of VideoWeave's sampler.

    Args:
        shard_rows: Rows of each shard, for each stored epoch; training epoch e reads stored epoch
            e % len(shard_rows).
        group_rows: Rows of a full row group.
        batch_rows: B.
        seed: Of the run.
        world_size: R; it decides how a batch is dealt to the slots.
        lengths: Of a stored epoch: a table `is_multimodal` bool, `length` integer, a row for each row.
        source_index: Of the data set; part of the addresses.

    Raises:
        ConfigError: R does not divide B, or the data set holds no rows.
    """

    def __init__(
        self,
        shard_rows: Sequence[Sequence[int]],
        *,
        group_rows: int,
        batch_rows: int,
        seed: int,
        world_size: int,
        lengths: Callable[[int], pa.Table],
        source_index: int = 0,
    ) -> None:
        if batch_rows % world_size:
            raise ConfigError(
                f"order: legacy deals equal parts of a batch to the processes; {world_size} do not divide "
                f"{batch_rows} rows: start another number of processes, or use --order lanes"
            )
        if not all(sum(rows) for rows in shard_rows):
            raise ConfigError(
                "the data set holds no rows for this split; build it first or name another split"
            )
        self.batch_rows = batch_rows
        self._seed = seed
        self._world_size = world_size
        self._group_rows = group_rows
        self._source_index = source_index
        self._starts = [[0, *itertools.accumulate(rows)] for rows in shard_rows]
        self._lengths = functools.cache(lambda data_epoch: _columns(lengths(data_epoch)))
        self._batches = functools.lru_cache(maxsize=2)(self._make_batches)

    def num_steps(self, num_epochs: int) -> int:
        """Global batches of the first `num_epochs` epochs."""
        cycles, rest = divmod(num_epochs, len(self._epoch_steps))
        return cycles * sum(self._epoch_steps) + sum(self._epoch_steps[:rest])

    def locate(self, step: int) -> tuple[int, int]:
        """Epoch and step within it of a global step counted from 0."""
        cycles, rest = divmod(step, sum(self._epoch_steps))
        before = [0, *itertools.accumulate(self._epoch_steps)]
        index = bisect.bisect_right(before, rest) - 1
        return cycles * len(self._epoch_steps) + index, rest - before[index]

    def rows(self, step: int, slots: range | None = None) -> list[RowAddress]:
        """Addresses of a global step's batch in slot order; only those of `slots` when given."""
        epoch, epoch_step = self.locate(step)
        batch = self._batches(epoch)[epoch_step]
        slots = range(self.batch_rows) if slots is None else slots
        return [self._address(slot, int(batch[slot]), epoch) for slot in slots]

    def slots_at(self, step: int, slots: range) -> list[int]:  # noqa: ARG002  every batch is full
        """All of `slots`: every batch is full."""
        return list(slots)

    @functools.cached_property
    def _epoch_steps(self) -> list[int]:
        return [
            sum(
                -(-int(count) // self.batch_rows)
                for count in np.bincount(self._lengths(index)[0], minlength=2)
            )
            for index in range(len(self._starts))
        ]

    def _make_batches(self, epoch: int) -> npt.NDArray[np.int64]:
        is_multimodal, length = self._lengths(epoch % len(self._starts))
        return split_modality_batches(
            is_multimodal,
            length,
            batch_rows=self.batch_rows,
            world_size=self._world_size,
            seed=self._seed + epoch,
        )

    def _address(self, slot: int, row: int, epoch: int) -> RowAddress:
        data_epoch = epoch % len(self._starts)
        starts = self._starts[data_epoch]
        shard_index = bisect.bisect_right(starts, row) - 1
        group_index, row_index = divmod(row - starts[shard_index], self._group_rows)
        group = GroupKey(self._source_index, data_epoch, shard_index, group_index)
        return RowAddress(slot, group, row_index, epoch)


def _columns(table: pa.Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    is_multimodal = table["is_multimodal"].to_numpy().astype(bool)
    return is_multimodal, table["length"].to_numpy().astype(np.int64)


def split_modality_batches(
    is_multimodal: npt.NDArray[np.bool_],
    length: npt.NDArray[np.int64],
    *,
    batch_rows: int,
    world_size: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The batches of one epoch.

    Args:
        is_multimodal: bool[n], whether a row has pixels.
        length: int64[n], words of its conversation.
        batch_rows: B, a multiple of R.
        world_size: R.
        seed: Of the run plus the number of the epoch.

    Returns:
        int64[steps, B], indices of rows; rank r's are columns [rB/R, (r+1)B/R).
    """
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed)
    parts = [np.flatnonzero(is_multimodal), np.flatnonzero(~is_multimodal)]
    shuffled = [torch.randperm(len(part), generator=generator).numpy() for part in parts]
    batches = np.concatenate(
        [
            part[_dealt(_chunks(order, batch_rows), length[part], world_size)]
            for part, order in zip(parts, shuffled, strict=True)
            if len(part)
        ]
    )
    batches = batches[torch.randperm(len(batches), generator=generator).numpy()]
    weights = length + np.where(is_multimodal, _VISUAL_LENGTH, 0)
    longest = int(np.argmax(weights[batches].max(axis=1)))
    batches[[0, longest]] = batches[[longest, 0]]
    return batches


def _chunks(order: npt.NDArray[np.int64], batch_rows: int) -> npt.NDArray[np.int64]:
    """int64[chunks, B]; the last is filled up from the first."""
    missing = -len(order) % batch_rows
    return np.concatenate([order, np.resize(order[:batch_rows], missing)]).reshape(-1, batch_rows)


def _dealt(
    chunks: npt.NDArray[np.int64], length: npt.NDArray[np.int64], world_size: int
) -> npt.NDArray[np.int64]:
    """Each chunk by falling length, every row to the rank with the fewest words so far; int64[chunks, B]."""
    # a stable sort of the negated lengths leaves ties as they are, as Python's reverse=True does
    by_length = np.take_along_axis(chunks, np.argsort(-length[chunks], axis=1, kind="stable"), axis=1)
    num_chunks, batch_rows = chunks.shape
    capacity = batch_rows // world_size
    words = np.zeros((num_chunks, world_size), dtype=np.int64)
    counts = np.zeros((num_chunks, world_size), dtype=np.int64)
    dealt = np.empty_like(chunks)
    every = np.arange(num_chunks)
    for column in by_length.T:
        rank = words.argmin(axis=1)
        dealt[every, rank * capacity + counts[every, rank]] = column
        counts[every, rank] += 1
        is_full = counts[every, rank] == capacity
        words[every, rank] = np.where(is_full, _FULL, words[every, rank] + length[column])
    return dealt
