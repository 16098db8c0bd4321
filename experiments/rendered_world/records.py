"""What happens in a film: frozen records, and where things are in each frame. Nothing is random here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from experiments.rendered_world.attributes import DIRECTIONS, FPS, HELD_OUT_MOTION

__all__ = ["Event", "Film", "Motion", "Place", "Scene", "Shown", "Thing"]

_GRID = 4096
"""Places are rounded to this part of a side, so that no library's last digit decides a pixel."""


@dataclass(frozen=True)
class Thing:
    """Something that is seen. `name` is what questions call it, `phrase` what captions do."""

    colour: str
    shape: str
    size: str

    @property
    def name(self) -> str:
        """`red ring`."""
        return f"{self.colour} {self.shape}"

    @property
    def phrase(self) -> str:
        """`a small red ring`."""
        return f"a {self.size} {self.name}"


@dataclass(frozen=True)
class Motion:
    """How something moves, in the picture (not on the ground a panning camera leaves behind).

    Attributes:
        kind: `left`, `right`, `up`, `down`; `bounce`, `rest`, or `circle`, which is held out.
        speed: Name of the speed; of the four directions only.
        sides_per_second: Speed; of the four directions only.
        num_hops: Of `bounce`.
    """

    kind: str
    speed: str | None = None
    sides_per_second: float = 0.0
    num_hops: int = 0


@dataclass(frozen=True)
class Event:
    """Something is there in frames `[start, stop)` of its scene.

    Attributes:
        thing: What.
        motion: How it moves meanwhile.
        start: First frame, from the scene's first.
        stop: The frame after its last.
        lane_ratio: Where it stays on the axis that it does not move along.
        middle_ratio: The middle of its path on the other axis; the place of what rests.
        radius_ratio: Half its extent over the picture's shorter side.
    """

    thing: Thing
    motion: Motion
    start: int
    stop: int
    lane_ratio: float
    middle_ratio: float
    radius_ratio: float

    @property
    def num_frames(self) -> int:
        """Frames it is there."""
        return self.stop - self.start

    def is_shown(self, frame: int) -> bool:
        """Whether it is there in a frame of its scene."""
        return self.start <= frame < self.stop

    def centre(self, frame: int) -> tuple[float, float]:
        """Its centre in a frame of its scene, x and y over width and height."""
        x, y = self._centre((frame - self.start) / max(1, self.num_frames - 1))
        return round(x * _GRID) / _GRID, round(y * _GRID) / _GRID

    def _centre(self, progress: float) -> tuple[float, float]:
        kind = self.motion.kind
        if kind in DIRECTIONS:
            step_x, step_y = DIRECTIONS[kind]  # type: ignore[index]
            way = self.motion.sides_per_second * (self.num_frames - 1) / FPS * (progress - 0.5)
            x = self.middle_ratio + way * step_x if step_x else self.lane_ratio
            y = self.middle_ratio + way * step_y if step_y else self.lane_ratio
            return x, y
        if kind == "bounce":
            hop = progress * self.motion.num_hops % 1.0
            return self.lane_ratio, 0.75 - 1.8 * hop * (1.0 - hop)
        if kind == HELD_OUT_MOTION:  # once around, at a constant pace, on four parabolas
            x, y = _round_once(progress)
            return self.lane_ratio + 0.18 * x, 0.5 + 0.25 * y
        return self.lane_ratio, self.middle_ratio


def _round_once(progress: float) -> tuple[float, float]:
    """A point that goes around the unit circle (within 6 %), from the right, downwards first."""
    quarter, part = divmod(progress % 1.0 * 4.0, 1.0)
    x, y = 1.0 - part**2, 1.0 - (1.0 - part) ** 2
    for _ in range(int(quarter)):
        x, y = -y, x
    return x, y


@dataclass(frozen=True)
class Place:
    """Where a scene is set. A film that returns to a place returns to the same picture."""

    background: str
    layout: str

    @property
    def phrase(self) -> str:
        """`grey striped background`; a plain one is just `grey background`."""
        return f"{self.background} {'' if self.layout == 'plain' else self.layout + ' '}background"


@dataclass(frozen=True)
class Scene:
    """One take: a place, a camera, and what happens. `pan` is `none`, `left` or `right`."""

    place: Place
    pan: str
    num_frames: int
    events: tuple[Event, ...]


class Shown(NamedTuple):
    """An event and its number in the film."""

    event_index: int
    event: Event


@dataclass(frozen=True)
class Film:
    """A clip (one scene) or a test video (several), at `FPS` frames a second."""

    film_id: str
    width_px: int
    height_px: int
    scenes: tuple[Scene, ...]

    @property
    def num_frames(self) -> int:
        """Of all scenes."""
        return sum(scene.num_frames for scene in self.scenes)

    @property
    def seconds(self) -> float:
        """Length."""
        return self.num_frames / FPS

    @property
    def starts(self) -> tuple[int, ...]:
        """First frame of every scene; the first is 0."""
        return tuple(accumulate((scene.num_frames for scene in self.scenes[:-1]), initial=0))

    @property
    def events(self) -> tuple[tuple[int, Event], ...]:
        """Every event with its scene's number, in order of appearance."""
        return tuple(
            (index, event)
            for index, scene in enumerate(self.scenes)
            for event in sorted(scene.events, key=lambda event: event.start)
        )

    def locate(self, frame: int) -> tuple[int, int]:
        """Scene of a frame, and the frame's number in it."""
        index = max(i for i, start in enumerate(self.starts) if start <= frame)
        return index, frame - self.starts[index]

    def shown(self, frame: int) -> Iterator[Shown]:
        """What is there in a frame."""
        scene, inside = self.locate(frame)
        for number, (index, event) in enumerate(self.events):
            if index == scene and event.is_shown(inside):
                yield Shown(number, event)
