"""What a set of rows is grouped by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.cluster.buckets import BucketGroups, group_bucket
from weave_data.cluster.cosines import SCALE, Quantized, UnitRows
from weave_data.keyed_hash import keyed_hashes

__all__ = ["GroupTask", "taste_codes"]

Rows = npt.NDArray[np.int64]

_TASTE_DIM = 8
_TASTE_RATIO = 0.31  # length of a taste beside a vector of length _VECTOR_RATIO: a tenth of a cosine,
_VECTOR_RATIO = 0.93  # and both together stay below 2**24


@dataclass(frozen=True)
class GroupTask:
    """Rows to group and the rules for it.

    Attributes:
        vectors: n of them, in clip-id order.
        clips_per_group: L.
        ranks: int64[n], a seeded permutation.
        labels: int64[n]; rows of one label never share a group. None: all may.
        tastes: float32[n, 8] of integers, as `taste_codes` gives them. None: none.
        unlike: Put unlike rows together instead of similar ones.
    """

    vectors: UnitRows
    clips_per_group: int
    ranks: Rows
    labels: Rows | None = None
    tastes: Quantized | None = None
    unlike: bool = False

    def subset(self, rows: Rows) -> GroupTask:
        """The same of some rows, ascending."""
        return replace(
            self,
            vectors=self.vectors.subset(rows),
            ranks=self.ranks[rows],
            labels=None if self.labels is None else self.labels[rows],
            tastes=None if self.tastes is None else self.tastes[rows],
        )

    def group(self) -> BucketGroups:
        """All rows as one bucket."""
        return group_bucket(
            self.quantized(),
            clips_per_group=self.clips_per_group,
            ranks=self.ranks,
            labels=self.labels,
            unlike=self.unlike,
        )

    def quantized(self) -> Quantized:
        """Vectors and tastes: float32[n, dim or dim + 8] of integers."""
        quantized = self.vectors.take(np.arange(len(self.vectors)))
        if self.tastes is None:
            return quantized
        return np.hstack([np.rint(quantized * np.float32(_VECTOR_RATIO)), self.tastes])


def taste_codes(clip_ids: pa.Array, *, key: str) -> Quantized:
    """A seeded direction for each clip, to be appended to its vector so that an epoch's groups differ.

    Clips whose directions agree seem up to 0.1 more similar than they are. On 2,000 synthetic clips 11
    to 18 % of the pairs at L = 2 then come again in another epoch, against 30 % with other starts alone,
    for 3 % of the mean pair cosine; at L = 8 it is 20 % against 27 %, for 2 %.

    Args:
        clip_ids: string[n].
        key: Of the hash; another key gives unrelated directions.

    Returns:
        float32[n, 8] of integers.
    """
    octets = keyed_hashes(clip_ids, key=key).astype("<u8").view(np.uint8).reshape(-1, _TASTE_DIM)
    direction = octets.astype(np.float64) - 127.5  # never the zero vector
    length = np.sqrt((direction * direction).sum(axis=1, keepdims=True))
    return np.rint(direction * (SCALE * _TASTE_RATIO / length)).astype(np.float32)
