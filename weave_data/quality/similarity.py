"""How well captions describe their clips: cosines of committed vectors, in exact integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["caption_cosines"]

_UNIT = float(1 << 24)
"""Every float16 of at most 1 in size is a multiple of 2**-24."""


def caption_cosines(images: npt.NDArray[Any], captions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Cosine of each clip's mean frame vector and its caption's vector.

    Products and sums are integers, so that the same vectors give the same bits on any CPU and with any
    BLAS; then come one square root each and one division.

    Args:
        images: float[n, dim], values of float16, rows of unit length but for their rounding.
        captions: float[n, dim], likewise.

    Returns:
        float32[n]; NaN where a vector is zero.
    """
    ours, theirs = _integers(images), _integers(captions)
    products, first, second = (
        np.einsum("ij,ij->i", left, right).astype(np.float64)
        for left, right in ((ours, theirs), (ours, ours), (theirs, theirs))
    )
    lengths = np.sqrt(first) * np.sqrt(second)
    with np.errstate(invalid="ignore"):
        return np.asarray(products / np.where(lengths > 0, lengths, np.nan), dtype=np.float32)


def _integers(vectors: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.asarray(vectors.astype(np.float64) * _UNIT, dtype=np.int64)
