"""Cosines as exact integers: the same on any thread count, BLAS kernel and CPU.

A float sum depends on its order, and a BLAS orders by threads and instruction set; one flipped last
bit can exchange two clips. Components are therefore rounded to multiples of 1/4000. By
Cauchy-Schwarz every partial sum of a product of two such vectors stays below 2**24, where float32
holds integers exactly, so the fast float matrix product returns integers that no order can change.
The price is noise of about 1e-4 in a cosine; neighbours that matter differ by 1e-2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weave_data.errors import VerificationError

__all__ = ["SCALE", "Quantized", "UnitRows", "direction_of", "quantize", "weighted_sum"]

SCALE = 4000
"""Quantised components per unit; (1.01 * SCALE + sqrt(dim) / 2)**2 < 2**24 up to dim 8192."""

Quantized = npt.NDArray[np.float32]
"""float32[n, dim] holding integers."""

_MAX_NORM_ERROR = 0.01  # float16 storage moves a unit vector's length by less than 1e-3
_MAX_DIM = 8192
_CHECK_ROWS = 65_536


@dataclass(frozen=True)
class UnitRows:
    """Some rows of an array of unit vectors, quantised when and as they are needed.

    Attributes:
        vectors: float16 or float32[n, dim], length 1 each; a memory map is never read whole.
        rows: int64[m], which of them, in clip-id order.
    """

    vectors: npt.NDArray[np.floating]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Components of a vector."""
        return int(self.vectors.shape[1])

    def take(self, places: npt.NDArray[np.int64]) -> Quantized:
        """float32[k, dim] of integers of the rows at `places`.

        Raises:
            VerificationError: As `quantize`.
        """
        rows = self.rows[places]
        return quantize(self.vectors[rows], numbers=rows)

    def subset(self, places: npt.NDArray[np.int64]) -> UnitRows:
        """The rows at `places`, ascending."""
        return UnitRows(self.vectors, self.rows[places])

    def blocks(self, num_rows: int) -> Iterator[tuple[slice, Quantized]]:
        """All rows in order, at most `num_rows` at a time, each with its place."""
        for start in range(0, len(self), num_rows):
            place = slice(start, min(start + num_rows, len(self)))
            yield place, self.take(np.arange(place.start, place.stop))


def quantize(vectors: npt.NDArray[np.floating], *, numbers: npt.NDArray[np.int64] | None = None) -> Quantized:
    """Round unit vectors to integers.

    Args:
        vectors: float16 or float32[n, dim], length 1 each.
        numbers: int64[n], what to call each of them in an error; 0 to n - 1 when not given.

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
            number = start + row if numbers is None else numbers[start + row]
            raise VerificationError(
                f"vector {number} has length {norms[row]:.4f}, groups need unit vectors; "
                "delete the embeddings of this build and run it again"
            )
        block *= np.float32(SCALE)
        np.rint(block, out=quantized[start : start + _CHECK_ROWS])
    return quantized


def weighted_sum(quantized: Quantized, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sum of rows, each so many times: exact in every order of summation, as are sums of sums.

    Args:
        quantized: float32[n, dim] of integers.
        weights: int64[n], their sum below 2**40.

    Returns:
        float64[dim] of integers below 2**53.
    """
    return np.asarray(quantized.T.astype(np.float64) @ weights.astype(np.float64))


def direction_of(total: npt.NDArray[np.float64]) -> Quantized:
    """A sum, quantised to about `SCALE` long: float32[dim] of integers."""
    length = math.sqrt(math.fsum(total * total))
    direction = total if length == 0 else total * (SCALE / length)
    return np.rint(direction).astype(np.float32)
