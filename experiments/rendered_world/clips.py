"""Training clips: one scene of 2 to 4 seconds, nothing of what is held out."""

from __future__ import annotations

from typing import Literal

from experiments.rendered_world.attributes import FPS
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Film, Motion, Scene
from experiments.rendered_world.staging import (
    draw_motion,
    draw_pan,
    draw_place,
    draw_side,
    draw_things,
    stage,
)

__all__ = ["CLIP_KINDS", "ClipKind", "clip_film", "stage_appearances", "stage_sequence"]

ClipKind = Literal["alone", "together", "in turn", "returning"]
CLIP_KINDS: dict[ClipKind, float] = {"alone": 0.45, "together": 0.25, "in turn": 0.2, "returning": 0.1}
"""What a clip shows, with its share: one thing; two, overlapping; two or three, one after the other; one
thing that leaves and comes back."""

_MIN_FRAMES, _MAX_FRAMES = 2 * FPS, 4 * FPS
_IN_TURN_SPEEDS = ("steadily", "quickly")


def clip_film(seed: int, index: int) -> Film:
    """What happens in training clip number `index`: a function of both alone."""
    draws = Draws(seed, "clips", index)
    kind = draws.weighted(tuple(CLIP_KINDS), tuple(CLIP_KINDS.values()))
    num_frames = draws.whole(_MIN_FRAMES, _MAX_FRAMES)
    return make_clip(draws, f"{seed:04d}{index:07d}", num_frames, stage_kind(draws, kind, num_frames))


def make_clip(draws: Draws, film_id: str, num_frames: int, events: tuple[Event, ...]) -> Film:
    """Choose where a clip's events take place."""
    place = draw_place(draws)
    scene = Scene(place, draw_pan(draws, place), num_frames, events)
    return Film(film_id, draw_side(draws), draw_side(draws), (scene,))


def stage_kind(draws: Draws, kind: ClipKind, num_frames: int) -> tuple[Event, ...]:
    """Choose what happens in a clip. Something is there in its first frame, whatever the kind."""
    match kind:
        case "alone":
            (thing,) = draw_things(draws, 1)
            motion = draw_motion(draws, num_frames)
            return (stage(draws, thing, motion, (0, num_frames), lane=draws.whole(0, 1)),)
        case "together":
            return stage_pair(draws, num_frames)
        case "in turn":
            return stage_sequence(draws, num_frames, 3 if num_frames >= 24 and draws.is_so(0.5) else 2)
        case "returning":
            return stage_appearances(draws, num_frames, draws.whole(2, 3))


def stage_pair(draws: Draws, num_frames: int) -> tuple[Event, ...]:
    """Two things; the second comes while the first is still there."""
    first, second = draw_things(draws, 2)
    lane = draws.whole(0, 1)
    motion = draw_motion(draws, num_frames)
    one = stage(draws, first, motion, (0, num_frames - draws.whole(0, 3)), lane=lane)
    start = draws.whole(4, max(4, one.stop - 4))
    other = draw_motion(draws, num_frames - start)
    return one, stage(draws, second, other, (start, num_frames), lane=1 - lane)


def stage_sequence(draws: Draws, num_frames: int, count: int) -> tuple[Event, ...]:
    """Two or three things, one after the other, each at least 6 frames long and moving in its own way."""
    things = draw_things(draws, count)
    starts = [round(number * num_frames / count) for number in range(count + 1)]
    events: list[Event] = []
    for number, thing in enumerate(things):
        window = starts[number], starts[number + 1] - draws.whole(0, 1)
        motion = draw_motion(draws, window[1] - window[0], speeds=_IN_TURN_SPEEDS)
        while any(motion.kind == event.motion.kind for event in events):
            motion = draw_motion(draws, window[1] - window[0], speeds=_IN_TURN_SPEEDS)
        events.append(stage(draws, thing, motion, window, lane=draws.whole(0, 1)))
    return tuple(events)


def stage_appearances(draws: Draws, num_frames: int, count: int) -> tuple[Event, ...]:
    """One thing that is there `count` times, for at least 3 frames, and away for at least 3 in between."""
    (thing,) = draw_things(draws, 1)
    motion = Motion("rest") if draws.is_so(0.5) else draw_motion(draws, 3, speeds=_IN_TURN_SPEEDS)
    spare = num_frames - 3 * count - 3 * (count - 1)
    cuts = sorted(draws.whole(0, spare) for _ in range(2 * count - 1))
    events, frame = [], 0
    for number in range(count):
        stop = frame + 3 + cuts[2 * number] - (cuts[2 * number - 1] if number else 0)
        events.append(stage(draws, thing, motion, (frame, stop), lane=draws.whole(0, 1)))
        if number + 1 < count:
            frame = stop + 3 + cuts[2 * number + 1] - cuts[2 * number]
    return tuple(events)
