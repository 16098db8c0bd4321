"""Things, places and motions put together; scripts of clips and films are made of these."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from experiments.rendered_world.attributes import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    FPS,
    HELD_OUT_THINGS,
    LAYOUTS,
    PANS,
    RADIUS_RATIOS,
    SHAPES,
    SIDE_PX,
    SIZES,
    SPEEDS,
)
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Motion, Place, Thing

__all__ = [
    "LANES",
    "bounce",
    "draw_motion",
    "draw_pan",
    "draw_place",
    "draw_side",
    "draw_things",
    "linear",
    "stage",
]

LANES = ((0.24, 0.36), (0.64, 0.76))
"""Where two things that are there at once stay on the axis they do not move along."""

_MOST_TRAVEL = 0.8
_FRAMES_PER_HOP = 5


def draw_things(
    draws: Draws, count: int, *, held_out: bool = False, without: Collection[str] = ()
) -> list[Thing]:
    """Choose things of different colours.

    Args:
        draws: Random numbers.
        count: How many.
        held_out: Only pairs of colour and shape that training never shows; otherwise none of these.
        without: Colours not to take.
    """
    colours = [colour for colour in COLOURS if colour not in without]
    if held_out:
        colours = [colour for colour, _ in sorted(HELD_OUT_THINGS) if colour not in without]
    things = []
    for colour in draws.some(colours, count):
        shapes = [shape for shape in SHAPES if ((colour, shape) in HELD_OUT_THINGS) == held_out]
        things.append(Thing(colour, draws.one(shapes), draws.one(SIZES)))
    return things


def draw_place(draws: Draws) -> Place:
    """Choose a background and its layout."""
    return Place(draws.one(tuple(BACKGROUNDS)), draws.one(LAYOUTS))


def draw_pan(draws: Draws, place: Place, *, chance: float = 0.3) -> str:
    """Choose how the camera moves; over a plain background it stands still, as nobody could see it move."""
    if place.layout == "plain" or not draws.is_so(chance):
        return "none"
    return draws.one(PANS[1:])


def draw_side(draws: Draws) -> int:
    """Choose a width or a height."""
    low, high = SIDE_PX
    return 2 * draws.whole(low // 2, high // 2)


def linear(
    draws: Draws, *, kinds: Sequence[str] = tuple(DIRECTIONS), speeds: Sequence[str] = tuple(SPEEDS)
) -> Motion:
    """Choose a direction and a speed."""
    speed = draws.one(speeds)
    return Motion(draws.one(kinds), speed, draws.between(*SPEEDS[speed]))


def bounce(num_hops: int) -> Motion:
    """Hop on the spot."""
    return Motion("bounce", num_hops=num_hops)


def draw_motion(draws: Draws, num_frames: int, *, speeds: Sequence[str] = tuple(SPEEDS)) -> Motion:
    """Choose a motion that training shows, for something that can be there for so many frames."""
    kind = draws.weighted(("linear", "bounce", "rest"), (0.6, 0.25, 0.15))
    if kind == "bounce" and num_frames >= _FRAMES_PER_HOP:
        return bounce(draws.whole(1, min(3, num_frames // _FRAMES_PER_HOP)))
    return Motion("rest") if kind == "rest" else linear(draws, speeds=speeds)


def stage(draws: Draws, thing: Thing, motion: Motion, window: tuple[int, int], *, lane: int) -> Event:
    """Put something into a scene, from the first frame of a window on.

    It is there until the window ends, or until it has crossed the picture.

    Args:
        draws: Random numbers.
        thing: What.
        motion: How it moves.
        window: Frames `[start, stop)` of the scene.
        lane: 0 or 1; different for things that are there at once.
    """
    start, stop = window
    way, middle = 0.0, draws.between(0.35, 0.65)
    if motion.sides_per_second:
        longest = int(_MOST_TRAVEL / motion.sides_per_second * FPS) + 1
        stop = min(stop, start + longest)
        way = motion.sides_per_second * (stop - start - 1) / FPS
        slack = max(0.0, (_MOST_TRAVEL - way) / 2.0)
        middle = 0.5 + draws.between(-slack, slack)
    return Event(
        thing,
        motion,
        start,
        stop,
        lane_ratio=draws.between(*LANES[lane]),
        middle_ratio=middle,
        radius_ratio=draws.between(*RADIUS_RATIOS[thing.size]),
    )
