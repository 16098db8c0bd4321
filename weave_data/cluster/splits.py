"""Which clips are held out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.keyed_hash import keyed_hashes

__all__ = ["split_of"]

_KEY = "split"


def split_of(clip_ids: pa.Array | pa.ChunkedArray, val_fraction: float) -> pa.Array:
    """Assign clips to `train` or `val` by their ids alone.

    No seed and no recipe enters, so all recipes of all builds hold out the same clips, and a larger
    `val_fraction` only moves clips from train to val: nothing trained on was ever a smaller
    build's train clip in val.

    Args:
        clip_ids: string[n].
        val_fraction: Expected share of `val`, within [0, 1).

    Returns:
        string[n], `train` or `val`.
    """
    threshold = np.uint64(int(val_fraction * 2.0**64))
    return pc.if_else(pa.array(keyed_hashes(clip_ids, key=_KEY) < threshold), "val", "train")
