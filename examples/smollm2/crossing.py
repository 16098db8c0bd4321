"""Captions that say where a clip's shape comes from and where it goes, and how they are read.

    Scene(red, left) -> "a red shape goes from right to left" -> Description("red", "left")

A shape crosses its frame: its centre begins within a tenth of one edge and ends within a tenth of the other.
So both places can be seen in single frames, the first and the last, and their order is the direction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from looking import Description, parse_caption
from world import Scene

__all__ = ["ENDS", "crossing_caption", "parse_crossing"]

ENDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "left": ("right", "left"),
        "right": ("left", "right"),
        "up": ("bottom", "top"),
        "down": ("top", "bottom"),
    }
)
"""Direction to the edges where its path begins and where it ends."""

_PATH = re.compile(r"\bfrom (?:the )?(\w+) to (?:the )?(\w+)")


def crossing_caption(scene: Scene) -> str:
    """Write what is true of a clip: `a red shape goes from right to left`."""
    start, stop = ENDS[scene.direction]
    return f"a {scene.colour} shape goes from {start} to {stop}"


def parse_crossing(sentence: str) -> Description:
    """Read one sentence: its first colour, and the direction of its first `from ... to ...`.

    A path that is none of `ENDS`, such as `from left to left` or `from left to top`, claims no direction.
    """
    path = _PATH.search(sentence.lower())
    ends = path.groups() if path else None
    direction = next((name for name, claimed in ENDS.items() if claimed == ends), None)
    return Description(parse_caption(sentence).colour, direction)
