"""What there is in the world, what it is called, and what is kept from training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from examples.demo.shapes import Colour

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "COUNTS",
    "DIRECTIONS",
    "FPS",
    "HELD_OUT_MOTION",
    "HELD_OUT_THINGS",
    "LAYOUTS",
    "NUM_FRAMES",
    "NUM_SCENES",
    "PANS",
    "RADIUS_RATIOS",
    "SHAPES",
    "SIDE_PX",
    "SIZES",
    "SPEEDS",
    "WOVEN_CLIPS",
    "Direction",
]

Direction = Literal["left", "right", "up", "down"]

COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "red": (225, 30, 30),
        "green": (30, 170, 50),
        "blue": (40, 70, 230),
        "yellow": (240, 220, 30),
        "purple": (150, 40, 190),
        "cyan": (40, 215, 225),
    }
)
SHAPES = ("square", "triangle", "ring", "cross")
SIZES = ("small", "large")
RADIUS_RATIOS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"small": (0.12, 0.14), "large": (0.20, 0.23)}
)
"""Range of half a thing's extent over the picture's shorter side."""

BACKGROUNDS: Mapping[str, Colour] = MappingProxyType(
    {"black": (16, 16, 16), "grey": (128, 128, 128), "white": (240, 240, 240), "pink": (245, 170, 185)}
)
LAYOUTS = ("plain", "striped", "checked", "dotted")
PANS = ("none", "left", "right")

DIRECTIONS: Mapping[Direction, tuple[int, int]] = MappingProxyType(
    {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
)
"""Unit steps (x, y) in image coordinates: y grows downwards."""

SPEEDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"slowly": (0.10, 0.14), "steadily": (0.26, 0.31), "quickly": (0.60, 0.75)}
)
"""Ranges in picture sides per second; nothing moves at a speed between them."""

COUNTS = ("once", "twice", "three times")

HELD_OUT_THINGS: frozenset[tuple[str, str]] = frozenset(
    {("red", "triangle"), ("blue", "ring"), ("yellow", "square"), ("purple", "cross")}
)
"""Pairs of colour and shape that no training clip shows; each colour and each shape is shown with others."""

HELD_OUT_MOTION = "circle"
"""A motion that no training clip shows or names."""

FPS = 8
SIDE_PX = (64, 96)
"""Range of width and of height, even numbers."""

NUM_SCENES = (3, 5, 7)
WOVEN_CLIPS = (1, 2, 4, 8, 16)
"""Every L of the arms: no test video has as many scenes."""

NUM_FRAMES = 16
"""T: frames of a video that a model is shown."""
