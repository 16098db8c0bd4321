"""Cosines as exact integers: the same on any thread count, BLAS kernel and CPU.

A float sum depends on its order, and a BLAS orders by threads and instruction set; one flipped last
bit can exchange two clips. Components are therefore rounded to multiples of 1/4000. By
Cauchy-Schwarz every partial sum of a product of two such vectors stays below 2**24, where float32
holds integers exactly, so the fast float matrix product returns integers that no order can change.
The price is noise of about 1e-4 in a cosine; neighbours that matter differ by 1e-2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from weave_data.errors import VerificationError

__all__ = ["SCALE", "Quantized", "mean_direction", "quantize"]

SCALE = 4000
"""Quantised components per unit; (1.01 * SCALE + sqrt(dim) / 2)**2 < 2**24 up to dim 8192."""

Quantized = npt.NDArray[np.float32]
"""float32[n, dim] holding integers."""

_MAX_NORM_ERROR = 0.01  # float16 storage moves a unit vector's length by less than 1e-3
_MAX_DIM = 8192
_CHECK_ROWS = 65_536


def quantize(vectors: npt.NDArray[np.floating]) -> Quantized:
    """Round unit vectors to integers.

    Args:
        vectors: float16 or float32[n, dim], length 1 each.

    Returns:
        float32[n, dim] of integers, about `SCALE` long.

    Raises:
        VerificationError: A vector is not finite or not of unit length, or dim is above 8192.
    """
    if vectors.shape[1] > _MAX_DIM:
        raise VerificationError(
            f"vectors have {vectors.shape[1]} components, groups take at most {_MAX_DIM}; "
            "choose another embedding.model"
        )
    quantized = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _CHECK_ROWS):
        block = vectors[start : start + _CHECK_ROWS].astype(np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        wrong = np.flatnonzero(~(np.abs(norms - 1) <= _MAX_NORM_ERROR))
        if len(wrong):
            row = int(wrong[0])
            raise VerificationError(
                f"vector {start + row} has length {norms[row]:.4f}, groups need unit vectors; "
                "delete the embeddings of this build and run it again"
            )
        quantized[start : start + _CHECK_ROWS] = np.rint(block * np.float32(SCALE))
    return quantized


def mean_direction(quantized: Quantized, weights: npt.NDArray[np.int64]) -> Quantized:
    """Quantised direction of a weighted sum, exact in every order of summation.

    Args:
        quantized: float32[n, dim] of integers.
        weights: int64[n], their sum below 2**40.

    Returns:
        float32[dim] of integers; zeros when the sum is zero.
    """
    total = quantized.T.astype(np.float64) @ weights.astype(np.float64)  # integers below 2**53
    length = math.sqrt(math.fsum(total * total))
    direction = total if length == 0 else total * (SCALE / length)
    return np.rint(direction).astype(np.float32)
