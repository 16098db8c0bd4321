"""Test videos, in families of three: one script, three casts.

    film 0: red ring does A, green cross does B, cyan square does C
    film 1: green cross does A, cyan square does B, red ring does C
    film 2: cyan square does A, red ring does B, green cross does C

A question with the same text and the same options is asked of all three, and each option is right once: who
does not look is right in exactly one film of three, whatever they know about the words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from experiments.rendered_world.attributes import NUM_SCENES
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Film, Scene, Thing
from experiments.rendered_world.sampling import (
    are_apart,
    are_counted,
    are_in_order,
    glimpses,
    is_off_beat,
)
from experiments.rendered_world.scripts import ANCHOR, CAST, HeldOut, Script, ScriptKind, draw_script
from experiments.rendered_world.staging import draw_side, draw_things

__all__ = ["FAMILY_SIZE", "Family", "draw_family", "video_film"]

FAMILY_SIZE = 3
_KINDS: tuple[ScriptKind, ...] = ("order", "count", "ways", "order", "count", "paces", "order", "hops")
_HELD_OUT: tuple[HeldOut, ...] = ("none", "combination", "none", "motion", "none")
_MOST_ATTEMPTS = 100_000


@dataclass(frozen=True)
class Family:
    """Three films of one script.

    Attributes:
        index: Its number.
        kind: What can be asked.
        held_out: What of it training never shows.
        players: Thing of each role in the first film.
        script: Played in all of them.
        films: The films.
    """

    index: int
    kind: ScriptKind
    held_out: HeldOut
    players: tuple[Thing, ...]
    script: Script
    films: tuple[Film, ...]

    def player(self, role: int, film: int) -> Thing:
        """Who plays a role in one of the films."""
        return self.players[(role + film) % FAMILY_SIZE if role in CAST else role]

    def role(self, thing: Thing, film: int) -> int:
        """What someone plays in one of the films."""
        index = self.players.index(thing)
        return (index - film) % FAMILY_SIZE if index in CAST else index


def video_film(seed: int, index: int) -> Film:
    """Test video number `index`: a function of both alone."""
    return draw_family(seed, index // FAMILY_SIZE).films[index % FAMILY_SIZE]


@lru_cache(maxsize=64)
def draw_family(seed: int, index: int) -> Family:
    """Family number `index`: kinds, numbers of scenes and what is held out go round.

    Raises:
        RuntimeError: No draw can be seen in T frames; a script asks for too much.
    """
    kind = _KINDS[index % len(_KINDS)]
    num_scenes = NUM_SCENES[index // len(_KINDS) % len(NUM_SCENES)]
    held_out = _HELD_OUT[index // (len(_KINDS) * len(NUM_SCENES)) % len(_HELD_OUT)]
    if held_out == "motion" and kind in ("paces", "hops"):
        held_out = "none"  # what goes round in a circle has neither
    for attempt in range(_MOST_ATTEMPTS):
        draws = Draws(seed, "films", index, attempt=attempt)
        players = _players(draws, held_out)
        script = draw_script(draws, kind, players, num_scenes, held_out)
        side_px = draw_side(draws), draw_side(draws)
        first = Film(_name(seed, index, 0), *side_px, script.scenes)
        if _is_visible(first, script, kind):
            family = Family(index, kind, held_out, players, script, (first,))
            return replace(family, films=tuple(_recast(family, seed, film) for film in range(FAMILY_SIZE)))
    raise RuntimeError(f"family {index}: nothing in {_MOST_ATTEMPTS} draws can be seen")


def _name(seed: int, family: int, film: int) -> str:
    return f"{seed:04d}{family * FAMILY_SIZE + film:06d}"


def _players(draws: Draws, held_out: HeldOut) -> tuple[Thing, ...]:
    """The cast, all of one size, so that they can stand in for each other; then the others."""
    cast = draw_things(draws, len(CAST), held_out=held_out == "combination")
    cast = [replace(thing, size=cast[0].size) for thing in cast]
    others = draw_things(draws, 3, without={thing.colour for thing in cast})
    return (*cast, *others)


def _recast(family: Family, seed: int, film: int) -> Film:
    first = family.films[0]
    parts = {thing: family.player(family.role(thing, 0), film) for thing in family.players}

    def played(event: Event) -> Event:
        return replace(event, thing=parts[event.thing])

    scenes: tuple[Scene, ...] = tuple(
        replace(scene, events=tuple(played(event) for event in scene.events)) for scene in first.scenes
    )
    return replace(first, film_id=_name(seed, family.index, film), scenes=scenes)


def _is_visible(film: Film, script: Script, kind: ScriptKind) -> bool:
    """Whether 16 uniform frames of the film answer its questions."""
    if not is_off_beat(film) or not are_apart(film):
        return False
    roles = script.sequence
    for seen in glimpses(film):
        if kind == "order":
            moves = [
                sum(number in shown for shown in seen) for number, role in enumerate(roles) if role in CAST
            ]
            if not are_in_order(seen, len(roles)) or min(moves) < 2:
                return False
        if kind == "count":
            for role in CAST:
                if not are_counted(seen, [number for number, other in enumerate(roles) if other == role]):
                    return False
    return ANCHOR in roles or kind != "order"
