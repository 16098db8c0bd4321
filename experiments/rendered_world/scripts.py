"""What happens in a test video, said of roles: who plays them is decided later.

Roles 0, 1 and 2 are the cast, whose parts go round in a family of films; 3 is the anchor, which questions
name beside them; 4 and 5 are others, who only fill time. A script is a draw; `films` throws away what
can't be seen in T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.rendered_world.attributes import DIRECTIONS, HELD_OUT_MOTION, SPEEDS
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Motion, Place, Scene, Thing
from experiments.rendered_world.staging import bounce, draw_motion, draw_pan, draw_place, linear, stage

__all__ = ["ANCHOR", "CAST", "HeldOut", "Script", "ScriptKind", "draw_script"]

ScriptKind = Literal["order", "count", "ways", "paces", "hops"]
HeldOut = Literal["none", "combination", "motion"]

CAST = (0, 1, 2)
ANCHOR = 3
_OTHERS = (4, 5)
_CALM = ("slowly", "steadily")
_MEDIAN_FRAMES, _SIGMA = 22.0, 0.35
_MIN_FRAMES, _MAX_FRAMES = 16, 48
_MIN_CLOSE_FRAMES = 18
"""Least length of a scene that is asked about alone: three hops of 6 frames."""
_PLACES = {3: (2, 3), 5: (3, 4), 7: (4, 5)}


@dataclass(frozen=True)
class Script:
    """Scenes played by `cast`, and who does what.

    Attributes:
        scenes: Of the first film of the family.
        motions: Of every role that keeps to one.
        scene_roles: Roles of each scene, in order of appearance.
    """

    scenes: tuple[Scene, ...]
    motions: Mapping[int, Motion]
    scene_roles: tuple[tuple[int, ...], ...]

    @property
    def sequence(self) -> tuple[int, ...]:
        """Role of every event, in order of appearance."""
        return tuple(role for roles in self.scene_roles for role in roles)

    def places_of(self, role: int) -> tuple[Place, ...]:
        """Where a role is seen."""
        return tuple(s.place for s, roles in zip(self.scenes, self.scene_roles, strict=True) if role in roles)


def draw_script(
    draws: Draws, kind: ScriptKind, players: Sequence[Thing], num_scenes: int, held_out: HeldOut
) -> Script:
    """Choose what happens.

    Args:
        draws: Random numbers.
        kind: What is to be asked about: the order of things, how many times they appear, or their ways,
            paces or hops in one scene.
        players: Thing of each role, in the first film.
        num_scenes: 3, 5 or 7.
        held_out: `motion`: some of the cast go round in a circle.
    """
    compose: Mapping[ScriptKind, Callable[[Draws, int], tuple[tuple[int, ...], ...]]] = {
        "order": _in_order,
        "count": _counted,
    }
    scene_roles = compose.get(kind, _close)(draws, num_scenes)
    motions = _motions(draws, kind, has_circle=held_out == "motion")
    places = _places(draws, num_scenes)
    is_close = kind not in compose
    scenes = tuple(
        _scene(draws, roles, players, motions, place, is_close=is_close and roles[0] in CAST)
        for roles, place in zip(scene_roles, places, strict=True)
    )
    return Script(scenes, motions, scene_roles)


def _in_order(draws: Draws, num_scenes: int) -> tuple[tuple[int, ...], ...]:
    """Each of cast and anchor appears once. The first to appear, and those right before and after the
    anchor, are of the cast.
    """
    first, second, third = draws.some(CAST, 3)
    spare = [_OTHERS[i % 2] for i in range(max(0, num_scenes - 4) + draws.whole(0, 2))]
    cut = draws.whole(0, len(spare))
    if draws.is_so(0.5):
        roles = [first, *spare[:cut], second, ANCHOR, third, *spare[cut:]]
    else:
        roles = [first, ANCHOR, second, *spare[:cut], third, *spare[cut:]]
    pairs = draws.some(range(num_scenes), len(roles) - num_scenes)
    groups, taken = [], 0
    for scene in range(num_scenes):
        stop = taken + (2 if scene in pairs else 1)
        groups.append(tuple(roles[taken:stop]))
        taken = stop
    return tuple(groups)


def _counted(draws: Draws, num_scenes: int) -> tuple[tuple[int, ...], ...]:
    """One of the cast appears in one scene, one in two, one in three; the others fill empty scenes."""
    groups: list[list[int]] = [[] for _ in range(num_scenes)]
    for count, role in zip((3, 2, 1), draws.some(CAST, 3), strict=True):
        free = [scene for scene, roles in enumerate(groups) if len(roles) < 2]
        for scene in draws.some(free, count):
            groups[scene].append(role)
    for number, roles in enumerate(groups):
        if not roles:
            roles.append((ANCHOR, *_OTHERS)[number % 3])
    return tuple(draws.some(roles, len(roles)) for roles in groups)


def _close(draws: Draws, num_scenes: int) -> tuple[tuple[int, ...], ...]:
    """Each of the cast has a scene of its own."""
    own = dict(zip(draws.some(range(num_scenes), 3), CAST, strict=True))
    others = draws.some((ANCHOR, *_OTHERS), 2)
    return tuple(
        (own[scene],) if scene in own else others[: draws.whole(1, 2)] for scene in range(num_scenes)
    )


def _motions(draws: Draws, kind: ScriptKind, *, has_circle: bool) -> dict[int, Motion]:
    ways = draws.some(tuple(DIRECTIONS), 3)
    match kind:
        case "order":
            motions = {role: linear(draws, kinds=(ways[role],), speeds=_CALM) for role in CAST}
        case "count":
            motions = {role: draw_motion(draws, 6, speeds=_CALM) for role in CAST}
        case "ways":
            speeds = (draws.one(tuple(SPEEDS)),)
            motions = {role: linear(draws, kinds=(ways[role],), speeds=speeds) for role in CAST}
        case "paces":
            paces = draws.some(tuple(SPEEDS), 3)
            motions = {role: linear(draws, kinds=ways[:1], speeds=(paces[role],)) for role in CAST}
        case "hops":
            motions = {role: bounce(hops) for role, hops in zip(CAST, draws.some((1, 2, 3), 3), strict=True)}
    if has_circle:
        circling = CAST if kind == "count" else (draws.one(CAST),)
        motions |= dict.fromkeys(circling, Motion(HELD_OUT_MOTION))
    for role in (ANCHOR, *_OTHERS):
        motions[role] = Motion("rest") if draws.is_so(0.5) else bounce(draws.whole(1, 2))
    return motions


def _places(draws: Draws, num_scenes: int) -> list[Place]:
    """Different from scene to scene; films come back to some."""
    known: list[Place] = []
    while len(known) < draws.whole(*_PLACES[num_scenes]):
        place = draw_place(draws)
        known += [] if place in known else [place]
    places: list[Place] = []
    for _ in range(num_scenes):
        places.append(draws.one([place for place in known if not places or place != places[-1]]))
    return places


def _scene(
    draws: Draws,
    roles: tuple[int, ...],
    players: Sequence[Thing],
    motions: Mapping[int, Motion],
    place: Place,
    *,
    is_close: bool,
) -> Scene:
    least = _MIN_CLOSE_FRAMES if is_close else _MIN_FRAMES
    num_frames = min(_MAX_FRAMES, max(least, round(draws.log_normal(_MEDIAN_FRAMES, _SIGMA))))
    lane = draws.whole(0, 1)
    if len(roles) == 1:
        windows = [(draws.whole(0, 2), num_frames - draws.whole(0, 2))]
        if not is_close:  # away for a while at one end, so that a return is seen as one
            windows = [(draws.whole(0, num_frames // 5), num_frames - draws.whole(0, num_frames // 5))]
    else:
        windows = [
            (0, num_frames - draws.whole(num_frames // 8, num_frames // 3)),
            (draws.whole(num_frames // 4, num_frames // 2), num_frames),
        ]
    events: list[Event] = [
        stage(draws, players[role], motions[role], window, lane=(lane + number) % 2)
        for number, (role, window) in enumerate(zip(roles, windows, strict=True))
    ]
    return Scene(place, draw_pan(draws, place), num_frames, tuple(events))
