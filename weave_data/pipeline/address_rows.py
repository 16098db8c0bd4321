"""A few rows of an address table of any size."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.shard import ADDRESS_SCHEMA

__all__ = ["AddressRows"]


class AddressRows:
    """Takes rows chunk by chunk: `pyarrow.Table.take` would join all chunks first.

    Args:
        table: `ADDRESS_SCHEMA`, or with `frame_tar` as list of dictionary; never copied.
    """

    def __init__(self, table: pa.Table) -> None:
        self._schema = table.schema
        self._chunks = table.to_batches()
        self._starts = np.cumsum([0, *(chunk.num_rows for chunk in self._chunks)])

    def take(self, rows: npt.NDArray[np.integer]) -> pa.Table:
        """Some rows, in the order asked for, with the keys of their own tars: `ADDRESS_SCHEMA`.

        Args:
            rows: int[n], in any order.
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        borders = np.searchsorted(ascending, self._starts)
        pieces = []
        for index, (first, last) in enumerate(itertools.pairwise(borders.tolist())):
            if first < last:
                inside = pa.array(ascending[first:last] - self._starts[index])
                pieces.append(self._chunks[index].take(inside))
        # the cast spells every frame's key out: a dictionary would take the tars of the whole build along
        found = pa.Table.from_batches(pieces, self._schema).cast(ADDRESS_SCHEMA).combine_chunks()
        is_sorted = bool((np.diff(order) > 0).all())
        return found if is_sorted else found.take(pa.array(np.argsort(order, kind="stable")))
