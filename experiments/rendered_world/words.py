"""Sentences that are true of one scene, and the same facts in other words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from experiments.rendered_world.attributes import COUNTS, DIRECTIONS, HELD_OUT_MOTION
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Motion, Scene, Thing

__all__ = ["Part", "caption", "motion_phrase", "parts_of", "rewritten"]

_GO = ("goes", "heads", "travels")
_PACES = {
    "slowly": ("at a slow pace", "without haste"),
    "steadily": ("at an even pace", "at a medium pace"),
    "quickly": ("at a fast pace", "rapidly"),
}
_STILL = ("does not move", "remains in place")


class Part(NamedTuple):
    """What one thing does in a scene.

    Attributes:
        thing: What.
        motion: How it moves each time it is there.
        num_times: How often it is there.
        is_meanwhile: It comes while the part before is still going on.
    """

    thing: Thing
    motion: Motion
    num_times: int
    is_meanwhile: bool


def parts_of(scene: Scene) -> tuple[Part, ...]:
    """What happens in a scene, in order of first appearance.

    Raises:
        ValueError: A thing moves in two ways in one scene: no caption says that.
    """
    return tuple(_parts(scene))


def _parts(scene: Scene) -> Iterator[Part]:
    by_thing: dict[Thing, list[Event]] = {}
    for event in sorted(scene.events, key=lambda event: event.start):
        by_thing.setdefault(event.thing, []).append(event)
    before: Event | None = None
    for thing, events in by_thing.items():
        if len({event.motion for event in events}) > 1:
            raise ValueError(f"{thing.phrase} moves in two ways in one scene; give it one motion there")
        is_meanwhile = before is not None and events[0].start < before.stop
        yield Part(thing, events[0].motion, len(events), is_meanwhile)
        before = events[-1]


def motion_phrase(motion: Motion) -> str:
    """`moves left slowly`, `bounces twice`, `stays still`, `moves in a circle`."""
    if motion.kind in DIRECTIONS:
        return f"moves {motion.kind} {motion.speed}"
    if motion.kind == "bounce":
        return f"bounces {COUNTS[motion.num_hops - 1]}"
    return "moves in a circle" if motion.kind == HELD_OUT_MOTION else "stays still"


def caption(scene: Scene) -> str:
    """Say what happens, in one clause after the other.

    Returns:
        `a small red ring moves left slowly while a large blue cross stays still on a grey background`.
    """
    text = ""
    for number, part in enumerate(parts_of(scene)):
        link = "" if number == 0 else " while " if part.is_meanwhile else ", then "
        text += f"{link}{part.thing.phrase} {_appears(part)}{motion_phrase(part.motion)}"
    return f"{text} on a {scene.place.phrase}{_camera(scene, ' as the camera pans {}')}"


def rewritten(scene: Scene, *, seed: int, index: int) -> str:
    """Say the same in other words: no fact is added and none is lost.

    Args:
        scene: Its parts are those of `caption`.
        seed: Of the wording.
        index: Of the clip.
    """
    draws = Draws(seed, "captions in other words", index)
    clauses = []
    for number, part in enumerate(parts_of(scene)):
        link = "" if number == 0 else "at the same time " if part.is_meanwhile else "after that "
        clauses.append(f"{link}{part.thing.phrase} {_appears(part)}{_other_motion(part.motion, draws)}")
    told = "; ".join(clauses)
    camera = _camera(scene, "the camera pans {}")
    match draws.whole(0, 2):
        case 0:
            return f"on a {scene.place.phrase}, {told}{camera and f'; {camera}'}"
        case 1:
            return f"{told}; behind this is a {scene.place.phrase}{camera and f', and {camera}'}"
        case _:
            return f"{camera and f'{camera}; '}the scene has a {scene.place.phrase}: {told}"


def _appears(part: Part) -> str:
    return f"appears {COUNTS[part.num_times - 1]} and " if part.num_times > 1 else ""


def _camera(scene: Scene, pattern: str) -> str:
    return "" if scene.pan == "none" else pattern.format(scene.pan)


def _other_motion(motion: Motion, draws: Draws) -> str:
    if motion.kind in DIRECTIONS:
        return f"{draws.one(_GO)} {motion.kind} {draws.one(_PACES[str(motion.speed)])}"
    if motion.kind == "bounce":
        return f"hops up and down {COUNTS[motion.num_hops - 1]}"
    return "goes around in a circle" if motion.kind == HELD_OUT_MOTION else draws.one(_STILL)
