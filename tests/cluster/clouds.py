"""Synthetic unit vectors: clusters of unequal size, and the references groups are measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def cloud(
    num_clips: int, *, dim: int = 64, num_clusters: int = 50, noise: float = 0.8, seed: int = 0
) -> npt.NDArray[np.float32]:
    """float32[num_clips, dim]: centres on the sphere, power-law weights, noise of length `noise`."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, num_clusters + 1)
    centres = unit(random.standard_normal((num_clusters, dim)))
    labels = random.choice(num_clusters, num_clips, p=weights / weights.sum())
    return unit(centres[labels] + noise * unit(random.standard_normal((num_clips, dim)))).astype(np.float32)


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names(num_clips: int) -> pa.Array:
    """Clip ids whose order is not the order of their numbers."""
    return pa.array([f"{(7919 * index) % 1_000_003:07d}" for index in range(num_clips)])
