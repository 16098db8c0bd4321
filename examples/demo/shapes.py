"""Antialiased shapes, and the colours a video codec keeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHAPES", "Colour", "coverage", "draw_shape", "ycbcr"]

SHAPES = ("circle", "square", "triangle", "diamond")
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def coverage(signed_distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a pixel inside a shape, from its centre's distance to the edge (negative inside)."""
    return np.clip(0.5 - signed_distance, 0.0, 1.0)


def draw_shape(
    shape: str, *, size_px: tuple[int, int], centre: NDArray[np.float64], radius_px: float
) -> NDArray[np.float64]:
    """Draw one antialiased shape.

    Args:
        shape: One of `SHAPES`.
        size_px: Width and height.
        centre: float64[2], x and y in pixels.
        radius_px: Half the shape's extent.

    Returns:
        float64[height, width], 1 inside, 0 outside, the covered share on the edge.

    Raises:
        ValueError: No such shape.
    """
    width, height = size_px
    x = np.arange(width)[None, :] + 0.5 - centre[0]
    y = np.arange(height)[:, None] + 0.5 - centre[1]
    match shape:
        case "circle":
            return coverage(np.sqrt(x * x + y * y) - radius_px)
        case "square":
            return coverage(np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius_px)
        case "diamond":
            return coverage((np.abs(x) + np.abs(y) - 1.2 * radius_px) / np.sqrt(2.0))
        case "triangle":  # apex up; the centre of the shape is the centre of its area
            slope = (2.0 * np.abs(x) - y - 1.2 * radius_px) / np.sqrt(5.0)
            return coverage(np.maximum(slope, y - 0.75 * radius_px))
    raise ValueError(f"shape {shape!r} can't be drawn; one of {', '.join(SHAPES)}")


def ycbcr(rgb: Colour) -> tuple[float, float, float]:
    """Y, Cb and Cr of a colour: BT.601, limited range, as H.264 files mean them by default."""
    red, green, blue = (value / 255.0 for value in rgb)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.772, 128 + 224 * (red - luma) / 1.402
