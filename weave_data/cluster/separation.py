"""Groups that keep clips of one label apart, as many of them as the labels allow.

g groups of L rows without two of one label exist exactly when the labels, each counted g times at
most, give L * g rows: rows are then dealt out label after label, and a label of at most g rows never
meets itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Dealt", "deal", "deal_short", "most_groups", "rows_to_leave", "separate"]

Rows = npt.NDArray[np.int64]


class Dealt(NamedTuple):
    """`groups` int64[g, L] and `leftovers` int64[r], ascending, of rows."""

    groups: Rows
    leftovers: Rows


def most_groups(labels: Rows, clips_per_group: int) -> int:
    """Most groups of exactly L rows in which no label appears twice.

    Args:
        labels: int64[n].
        clips_per_group: L.
    """
    counts = np.unique(labels, return_counts=True)[1]
    fits, too_many = 0, len(labels) // clips_per_group + 1
    while too_many - fits > 1:  # sum(min(count, g)) - L * g is concave in g: bisect for its last root
        middle = (fits + too_many) // 2
        if np.minimum(counts, middle).sum() >= clips_per_group * middle:
            fits = middle
        else:
            too_many = middle
    return fits


def rows_to_leave(labels: Rows, clips_per_group: int, order: Rows) -> Rows:
    """Fewest rows without which the others fill groups.

    Args:
        labels: int64[n].
        clips_per_group: L.
        order: int64[n], a permutation of the rows, those to leave first at the front.

    Returns:
        Ascending rows: those of a label beyond one in every group, then as many as do not fill one.
    """
    num_groups = most_groups(labels, clips_per_group)
    keeps = order[::-1]
    is_left = np.zeros(len(labels), dtype=bool)
    is_left[keeps[_number_within_label(labels[keeps]) >= num_groups]] = True
    others = order[~is_left[order]]
    is_left[others[: len(others) - num_groups * clips_per_group]] = True
    return np.flatnonzero(is_left)


def deal(labels: Rows, clips_per_group: int, order: Rows) -> Dealt:
    """Form as many groups as the labels allow.

    Args:
        labels: int64[n].
        clips_per_group: L.
        order: int64[n], a permutation of the rows; neighbours in it are dealt to different groups,
            and its last rows are left over first.
    """
    left = rows_to_leave(labels, clips_per_group, order[::-1])
    kept = order[~np.isin(order, left)]
    _, first, label = np.unique(labels[kept], return_index=True, return_inverse=True)
    dealt = kept[np.argsort(first[label], kind="stable")]  # labels by their first row in the order
    return Dealt(dealt.reshape(clips_per_group, -1).T, left)


def deal_short(labels: Rows, clips_per_group: int, order: Rows) -> list[Rows]:
    """All rows in groups of at most L, as few as keep labels apart."""
    if len(labels) == 0:
        return []
    largest = int(np.unique(labels, return_counts=True)[1].max())
    num_groups = max(-(-len(labels) // clips_per_group), largest)
    dealt = order[np.argsort(labels[order], kind="stable")]
    return [dealt[index::num_groups] for index in range(num_groups)]


def separate(groups: Rows, spare: Rows, labels: Rows) -> Dealt:
    """Break up groups that hold a label twice and deal their rows out anew.

    Where their rows and the spare ones can't fill all the groups that the labels allow, sound groups
    are broken up too, from the last one on, twice as many each time.

    Args:
        groups: int64[g, L], distinct rows.
        spare: int64[r], rows in no group.
        labels: int64[n], by row.

    Returns:
        As many groups as the labels of all these rows allow, sound ones first, and what is left.
    """
    clips_per_group = groups.shape[1]
    held = np.sort(labels[groups], axis=1)
    is_sound = ~np.any(held[:, 1:] == held[:, :-1], axis=1)
    sound = groups[is_sound]
    pool = np.concatenate([groups[~is_sound].ravel(), spare])
    goal = most_groups(labels[np.concatenate([groups.ravel(), spare])], clips_per_group)
    num_broken = 0
    while True:
        kept, broken = np.split(sound, [len(sound) - num_broken])
        rows = np.concatenate([pool, broken.ravel()])
        if len(kept) + most_groups(labels[rows], clips_per_group) >= goal:
            break
        num_broken = min(max(2 * num_broken, goal - len(sound), 1), len(sound))
    dealt = deal(labels[rows], clips_per_group, np.arange(len(rows)))
    return Dealt(np.concatenate([kept, rows[dealt.groups]]), np.sort(rows[dealt.leftovers]))


def _number_within_label(labels: Rows) -> Rows:
    """How many earlier entries have the same label: int64[n]."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order[:1]] - 1))
    sizes = np.diff(starts, append=len(order))
    numbers = np.empty(len(labels), dtype=np.int64)
    numbers[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return numbers
