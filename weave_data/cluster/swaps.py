"""Exchange clips between groups while that raises the sum of cosines within groups.

A candidate brings a near neighbour j of row i into i's group in place of one of its other members
x. With P[g, r] the sum of cosines between row r and the members of group g, exchanging x of group A
with j of group B gains

    (P[B, x] - P[A, x] + |x|^2) + (P[A, j] - P[B, j] + |j|^2) - 2 x.j

which is a handful of gathers for all candidates at once. In each round the candidates that are the
best of both their groups are applied together; they touch disjoint groups, so their gains add up.
All values are integers: the objective rises by at least one each round, so the rounds end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weave_data.cluster.bisection import Cosines

__all__ = ["improve_by_swaps", "within_group_sum"]

Indices = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int32] | npt.NDArray[np.int64]

_NUM_NEIGHBOURS = 32
_MAX_ROUNDS = 1000  # seen: 20 at L = 2, 110 at L = 16


@dataclass
class _State:
    """A grouping under improvement.

    `cosines` int[m, m]; `groups` int64[g, L]; `group_of` int64[m], -1 for a row in no group;
    `sums` int[g, m], P of the module docstring; `is_active` bool[g], the
    groups of which a candidate may gain.
    """

    cosines: Integers
    groups: Indices
    group_of: Indices
    sums: Integers
    is_active: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Swaps:
    """Exchanges, best first: row `out[s]` of group `home[s]` for row `incoming[s]` of `away[s]`."""

    out: Indices
    incoming: Indices
    home: Indices
    away: Indices


def improve_by_swaps(cosines: Cosines, groups: Indices) -> Indices:
    """Swap rows between groups until no exchange with a near neighbour helps.

    Args:
        cosines: float32[m, m] of integers, symmetric.
        groups: int64[g, L], distinct rows; rows in no group stay out.

    Returns:
        int64[g, L], the same rows, regrouped.
    """
    if groups.shape[0] < 2 or groups.shape[1] < 2:
        return groups
    state = _start(cosines, groups)
    edges = _neighbour_edges(cosines, state.group_of)
    for _ in range(_MAX_ROUNDS):
        candidates = _gainful_swaps(state, edges)
        if not len(candidates.out):
            break
        # between two groups that both stay as they are nothing new can gain: skip them next round
        state.is_active[:] = False
        state.is_active[candidates.home] = state.is_active[candidates.away] = True
        _apply(state, _compatible(candidates, len(groups)))
    return state.groups


def within_group_sum(cosines: Cosines, groups: Indices) -> int:
    """Sum of cosines over ordered pairs within groups (and each row with itself): what swaps raise."""
    return int(cosines[groups[:, :, None], groups[:, None, :]].sum(dtype=np.float64))


def _start(cosines: Cosines, groups: Indices) -> _State:
    num_groups, clips_per_group = groups.shape
    group_of = np.full(len(cosines), -1, dtype=np.int64)
    group_of[groups.ravel()] = np.repeat(np.arange(num_groups), clips_per_group)
    # a gain is made of four sums of at most L cosines and twice a cosine; a penalty is larger than any cosine
    fits = (4 * clips_per_group + 2) * float(np.abs(cosines).max()) < 1 << 31
    exact: Integers = cosines.astype(np.int32) if fits else cosines.astype(np.int64)
    sums = np.stack([exact[group].sum(axis=0, dtype=exact.dtype) for group in groups])
    return _State(exact, groups.copy(), group_of, sums, np.ones(num_groups, dtype=bool))


def _neighbour_edges(cosines: Cosines, group_of: Indices) -> tuple[Indices, Indices]:
    """Edges (i, j) from every grouped row to its nearest rows; ties go to the lower row."""
    size = len(cosines)
    num_neighbours = min(_NUM_NEIGHBOURS, size - 1)
    # distinct keys: which rows a partial sort keeps must not depend on its algorithm
    keys = np.arange(size, dtype=np.int64) - cosines.astype(np.int64) * size
    np.fill_diagonal(keys, np.iinfo(np.int64).max)
    near = np.sort(np.argpartition(keys, num_neighbours - 1, axis=1)[:, :num_neighbours], axis=1)
    row, neighbour = np.repeat(np.arange(size), num_neighbours), near.ravel()
    is_grouped = (group_of[row] >= 0) & (group_of[neighbour] >= 0)
    return row[is_grouped], neighbour[is_grouped]


def _gainful_swaps(state: _State, edges: tuple[Indices, Indices]) -> _Swaps:
    """For each edge between groups that may have changed, its best exchange if that gains."""
    row, incoming = edges
    home, away = state.group_of[row], state.group_of[incoming]
    looks = np.flatnonzero((home != away) & (state.is_active[home] | state.is_active[away]))
    row, incoming, home, away = row[looks], incoming[looks], home[looks], away[looks]
    size = len(state.cosines)
    members = state.groups.take(home, axis=0)  # [edges, L]
    ties = _ties(state)
    gains = state.sums.ravel().take(away[:, None] * size + members)
    gains -= ties.take(members)
    gains += (state.sums.ravel().take(home * size + incoming) - ties[incoming])[:, None]
    gains -= 2 * state.cosines.ravel().take(incoming[:, None] * size + members)
    gains[members == row[:, None]] = -1  # i itself stays
    best = np.argmax(gains, axis=1)
    every = np.arange(len(best))
    gain, out = gains[every, best], members[every, best]
    useful = np.flatnonzero(gain > 0)
    order = useful[np.lexsort((incoming[useful], out[useful], -gain[useful]))]
    return _Swaps(out[order], incoming[order], home[order], away[order])


def _ties(state: _State) -> Integers:
    """Sum of cosines between each row and the others of its group: int[m], arbitrary for one in no group."""
    rows = np.arange(len(state.cosines))
    return np.asarray(state.sums[state.group_of, rows] - state.cosines.diagonal())


def _compatible(swaps: _Swaps, num_groups: int) -> _Swaps:
    """Those exchanges that come first in both their groups: at most one touches a group."""
    rank = np.arange(len(swaps.out))
    first = np.full(num_groups, len(rank))
    np.minimum.at(first, swaps.home, rank)
    np.minimum.at(first, swaps.away, rank)
    keep = (first[swaps.home] == rank) & (first[swaps.away] == rank)
    return _Swaps(swaps.out[keep], swaps.incoming[keep], swaps.home[keep], swaps.away[keep])


def _apply(state: _State, swaps: _Swaps) -> None:
    """Carry out exchanges of disjoint groups, in place."""
    slot_out = np.argmax(state.groups[swaps.home] == swaps.out[:, None], axis=1)
    slot_incoming = np.argmax(state.groups[swaps.away] == swaps.incoming[:, None], axis=1)
    state.groups[swaps.home, slot_out] = swaps.incoming
    state.groups[swaps.away, slot_incoming] = swaps.out
    state.group_of[swaps.incoming], state.group_of[swaps.out] = swaps.home, swaps.away
    change = state.cosines[swaps.incoming] - state.cosines[swaps.out]
    state.sums[swaps.home] += change
    state.sums[swaps.away] -= change
