"""How well frozen centroids still fit: distances of old clips against those of new ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weave_data.cluster.centroids import as_quantized, nearest_centroids
from weave_data.cluster.cosines import UnitRows

__all__ = ["CentroidDistances", "Drift", "drift", "measure_distances"]


@dataclass(frozen=True)
class CentroidDistances:
    """Distances (1 - cosine) of clips from their nearest centroid, to keep beside the centroids.

    `mean` and `deviation` (standard, of the clips) are 0 for no clips.
    """

    num_clips: int
    mean: float
    deviation: float

    def to_json(self) -> dict[str, Any]:
        """Plain dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CentroidDistances:
        """Inverse of `to_json`."""
        return cls(values["num_clips"], values["mean"], values["deviation"])


@dataclass(frozen=True)
class Drift:
    """What changed since the centroids were fitted.

    `shift` is the difference of the means in standard deviations of the old clips' distances: near 0
    when new clips lie where old ones did, above 1 when a typical new clip is farther from every centroid
    than five in six old ones. nan without both old and new clips.
    """

    old: CentroidDistances
    new: CentroidDistances
    shift: float

    def to_json(self) -> dict[str, Any]:
        """Plain dict; a shift that is nan becomes None."""
        shift = None if math.isnan(self.shift) else self.shift
        return {"old": self.old.to_json(), "new": self.new.to_json(), "shift": shift}


def measure_distances(
    vectors: npt.NDArray[np.floating], centroids: npt.NDArray[np.float32]
) -> CentroidDistances:
    """Distances of clips from their nearest centroid.

    Args:
        vectors: float16 or float32[n, dim] of unit length; may be memory-mapped.
        centroids: float32[c, dim], as `fit_centroids` gives them.

    Raises:
        VerificationError: Vectors not of unit length, or centroids of other vectors.
    """
    quantized = as_quantized(centroids, dim=vectors.shape[1])
    if len(vectors) == 0:
        return CentroidDistances(0, 0.0, 0.0)
    _, cosines = nearest_centroids(UnitRows(vectors, np.arange(len(vectors))), quantized, 1)
    distances = 1 - cosines[:, 0].astype(np.float64)
    return CentroidDistances(len(vectors), float(distances.mean()), float(distances.std()))


def drift(old: CentroidDistances, new: CentroidDistances) -> Drift:
    """Compare clips that centroids were fitted to with clips added since.

    Args:
        old: Measured when the centroids were committed.
        new: Of the clips added since, by the same centroids.
    """
    difference = new.mean - old.mean
    if not (old.num_clips and new.num_clips):
        shift = float("nan")
    elif difference == 0:
        shift = 0.0
    else:
        shift = difference / old.deviation if old.deviation else math.copysign(math.inf, difference)
    return Drift(old, new, shift)
