"""Which clips go to which shape of sample, when a recipe mixes strategies or lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import Portion
from weave_data.keyed_hash import keyed_hashes

__all__ = ["portion_sizes", "split_portions"]

_KEY = "portion"


def portion_sizes(num_clips: int, portions: Sequence[Portion]) -> list[int]:
    """Clips of each portion: whole samples in the ratio of the weights.

    The clips that fill no more samples in that ratio go to the portion of the fewest clips per sample.

    Returns:
        One number per portion; they add up to `num_clips`.
    """
    clips_per_unit = sum(portion.weight * portion.num_clips for portion in portions)
    units = num_clips / clips_per_unit
    # 1e-9: a ratio that is whole on paper must not fall below it by rounding
    sizes = [int(units * portion.weight + 1e-9) * portion.num_clips for portion in portions]
    shortest = min(range(len(portions)), key=lambda index: portions[index].num_clips)
    sizes[shortest] += num_clips - sum(sizes)
    return sizes


def split_portions(
    clip_ids: pa.Array, splits: pa.Array, portions: Sequence[Portion], *, seed: int, epoch: int
) -> npt.NDArray[np.int16]:
    """Assign every clip to a portion, each split on its own, by a keyed permutation.

    Args:
        clip_ids: string[n], distinct, any order: the assignment does not depend on it.
        splits: string[n].
        portions: The recipe's.
        seed: The recipe's.
        epoch: Another epoch assigns anew.

    Returns:
        int16[n], indices into `portions`.
    """
    found = np.zeros(len(clip_ids), dtype=np.int16)
    if len(portions) == 1:
        return found
    hashes = keyed_hashes(clip_ids, key=f"{_KEY}:{seed}:{epoch}")
    names = pc.rank(clip_ids, sort_keys="ascending").to_numpy(zero_copy_only=False)
    for split in ("train", "val"):
        rows = np.flatnonzero(pc.equal(splits, split).to_numpy(zero_copy_only=False))
        order = rows[np.lexsort((names[rows], hashes[rows]))]
        sizes = portion_sizes(len(rows), portions)
        found[order] = np.repeat(np.arange(len(portions), dtype=np.int16), sizes)
    return found
