"""A first grouping of one bucket: bisect it until L rows are left in every piece."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Cosines", "bisect_into_groups"]

Cosines = npt.NDArray[np.float32]
"""float32[m, m] of integers below 2**24, symmetric: `cosines.SCALE` squared times the cosine."""

_ROUNDS = 4


def bisect_into_groups(
    cosines: Cosines, rows: npt.NDArray[np.int64], *, clips_per_group: int, ranks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Group rows by balanced 2-means all the way down.

    Args:
        cosines: float32[m, m] of integers.
        rows: int64[g * L], ascending rows of `cosines` to group.
        clips_per_group: L.
        ranks: int64[m], a permutation; its first row in a piece is where that bisection starts.

    Returns:
        int64[g, L]; every row is in exactly one group.
    """
    groups: list[npt.NDArray[np.int64]] = []
    pending = [rows] if len(rows) else []
    while pending:
        piece = pending.pop()
        if len(piece) == clips_per_group:
            groups.append(piece)
            continue
        is_left = _halve(cosines, piece, clips_per_group, ranks)
        pending += [piece[~is_left], piece[is_left]]
    return np.array(groups, dtype=np.int64).reshape(-1, clips_per_group)


def _halve(
    cosines: Cosines, piece: npt.NDArray[np.int64], clips_per_group: int, ranks: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    inner = cosines[np.ix_(piece, piece)].astype(np.float64)  # sums of integers stay exact
    num_left = len(piece) // clips_per_group // 2 * clips_per_group
    far = np.argmin(inner[np.argmin(ranks[piece])])
    score = inner[far] - inner[np.argmin(inner[far])]
    total = inner.sum(axis=1)
    is_left = np.empty(len(piece), dtype=bool)
    for round_number in range(_ROUNDS + 1):
        is_left[:] = False
        is_left[np.argsort(-score, kind="stable")[:num_left]] = True
        if round_number < _ROUNDS:
            to_left = inner @ is_left.astype(np.float64)
            score = to_left / num_left - (total - to_left) / (len(piece) - num_left)
    return is_left
