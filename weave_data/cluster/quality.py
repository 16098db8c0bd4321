"""How similar the clips of a group are, and what chance would give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import AccountingError

__all__ = ["mean_pair_cosine", "random_pair_cosine"]

_BLOCK_ROWS = 65_536


def mean_pair_cosine(
    groups: pa.Table, clip_ids: pa.Array | pa.ChunkedArray, vectors: npt.NDArray[np.floating]
) -> float:
    """Mean cosine over all pairs of clips that share a group.

    Args:
        groups: GROUP_SCHEMA, `group_index` unique to a group (as `group_splits` numbers them).
        clip_ids: string[n], which clip each vector is of; any order, more than `groups` holds is fine.
        vectors: float16 or float32[n, dim] of unit length.

    Returns:
        Within [-1, 1]; nan when no group has two clips.

    Raises:
        AccountingError: A clip of `groups` has no vector.
    """
    rows = pc.index_in(groups["clip_id"], value_set=_as_array(clip_ids))
    if rows.null_count:
        raise AccountingError(f"{rows.null_count} grouped clips have no vector; embed the same clips first")
    group = groups["group_index"].to_numpy()
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    num_pairs = int((sizes * (sizes - 1)).sum())  # ordered ones, as in the sum
    if num_pairs == 0:
        return float("nan")
    return _pair_sum(rows.to_numpy()[order], starts, vectors) / num_pairs


def random_pair_cosine(vectors: npt.NDArray[np.floating]) -> float:
    """Expected `mean_pair_cosine` of groups drawn at random: the mean over all pairs of clips.

    Args:
        vectors: float16 or float32[n, dim] of unit length.

    Returns:
        Within [-1, 1]; nan when there are fewer than two clips.
    """
    if len(vectors) < 2:
        return float("nan")
    total = np.zeros(vectors.shape[1])
    squares = 0.0
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS].astype(np.float64)
        total += block.sum(axis=0)
        squares += float((block * block).sum())
    return float((total @ total - squares) / (len(vectors) * (len(vectors) - 1)))


def _pair_sum(
    rows: npt.NDArray[np.integer], starts: npt.NDArray[np.int64], vectors: npt.NDArray[np.floating]
) -> float:
    """Sum of cosines over ordered pairs of different rows within each run that begins at `starts`."""
    total = 0.0
    bounds = np.append(starts, len(rows))
    for block in np.array_split(np.arange(len(starts)), len(rows) // _BLOCK_ROWS + 1):
        first, stop = bounds[block[0]], bounds[block[-1] + 1]
        members = vectors[rows[first:stop]].astype(np.float64)
        sums = np.add.reduceat(members, starts[block] - first, axis=0)
        total += float((sums * sums).sum() - (members * members).sum())
    return total


def _as_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
