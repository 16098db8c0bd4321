"""Questions about test videos, in the plain format that `weave-train evaluate --task questions` reads.

A family gives the same questions with the same options to its three films; each option is the answer in one
of them. So answers, their places and their texts are balanced exactly, within every type and within every
question: a model that does not look is right in a third, whatever it prefers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from experiments.rendered_world.attributes import COUNTS, FPS, HELD_OUT_MOTION
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.films import FAMILY_SIZE, Family, draw_family, video_film
from experiments.rendered_world.output import claim_directory, render_films, write_json_lines
from experiments.rendered_world.records import Motion, Thing
from experiments.rendered_world.scripts import ANCHOR, CAST

__all__ = ["LONG_TYPES", "SHORT_TYPES", "Question", "family_questions", "object_motion", "write_questions"]

LONG_TYPES = ("first", "before-after", "how-many", "which-object")
"""Asked of a whole video: long context matters."""

SHORT_TYPES = ("fine-motion", "speed", "repetitions")
"""Asked of one scene: weaving, which shows fewer frames of each clip, should lose."""


@dataclass(frozen=True)
class Question:
    """One question about one film.

    Attributes:
        film: Number of the film in its family.
        type: One of `LONG_TYPES` and `SHORT_TYPES`.
        text: What is asked.
        options: What can be answered; the same in all films of a family, in the same order.
        answer: Which option is true.
        scene: Asked of this scene alone.
    """

    film: int
    type: str
    text: str
    options: tuple[str, ...]
    answer: int
    scene: int | None = None


def family_questions(seed: int, family: Family) -> list[Question]:
    """All questions about a family's films."""
    draws = Draws(seed, "questions on films", family.index)
    asked = {"order": _order, "count": _how_many, "ways": _ways, "paces": _paces, "hops": _hops}[family.kind]
    found = []
    for kind, text, answer, scene in asked(family, draws):
        options = draws.some(sorted({answer(film) for film in range(FAMILY_SIZE)}), FAMILY_SIZE)
        for film in range(FAMILY_SIZE):
            place = None if scene is None else scene(film)
            found.append(Question(film, kind, text, options, options.index(answer(film)), place))
    return sorted(found, key=lambda question: question.film)


def object_motion(motion: Motion) -> str:
    """`moves left`, `moves in a circle`: how a thing is told from others."""
    if motion.kind == "bounce":
        return f"bounces {COUNTS[motion.num_hops - 1]}"
    if motion.kind == "rest":
        return "stays still"
    return f"moves {_way(motion)}"


Asked = tuple[str, str, Callable[[int], str], Callable[[int], int] | None]
"""Type, text, the true answer of each film, and the scene it is asked of."""


def _order(family: Family, draws: Draws) -> Iterator[Asked]:
    roles = family.script.sequence
    anchor, place = family.players[ANCHOR].name, roles.index(ANCHOR)

    def player_of(role: int) -> Callable[[int], str]:
        return lambda film: f"a {family.player(role, film).name}"

    yield "first", "What came first?", player_of(roles[0]), None
    yield "before-after", f"What came right before the {anchor}?", player_of(roles[place - 1]), None
    yield "before-after", f"What came right after the {anchor}?", player_of(roles[place + 1]), None
    motions = family.script.motions
    circling = [role for role in CAST if motions[role].kind == HELD_OUT_MOTION]
    mover = draws.one(circling or CAST)
    what = object_motion(motions[mover])
    yield "which-object", f"Which object {what}?", player_of(mover), None
    phrases = [scene.place.phrase for scene in family.script.scenes]
    own = [
        (group[0], phrase)
        for group, phrase in zip(family.script.scene_roles, phrases, strict=True)
        if len(group) == 1 and group[0] in CAST and phrases.count(phrase) == 1
    ]
    if own:
        role, phrase = draws.one(own)
        yield "which-object", f"Which object is on the {phrase}?", player_of(role), None


def _how_many(family: Family, draws: Draws) -> Iterator[Asked]:
    del draws
    roles = family.script.sequence
    for thing in _cast(family):
        text = f"How many times does the {thing.name} appear?"
        yield "how-many", text, partial(_counted, family, roles, thing), None


def _counted(family: Family, roles: tuple[int, ...], thing: Thing, film: int) -> str:
    return COUNTS[roles.count(family.role(thing, film)) - 1]


def _ways(family: Family, draws: Draws) -> Iterator[Asked]:
    return _close(family, draws, "fine-motion", "Which way does the {} move?", _way)


def _paces(family: Family, draws: Draws) -> Iterator[Asked]:
    return _close(family, draws, "speed", "How fast does the {} move?", lambda motion: str(motion.speed))


def _hops(family: Family, draws: Draws) -> Iterator[Asked]:
    text = "How many times does the {} bounce?"
    return _close(family, draws, "repetitions", text, lambda motion: COUNTS[motion.num_hops - 1])


def _close(
    family: Family, draws: Draws, kind: str, text: str, answer: Callable[[Motion], str]
) -> Iterator[Asked]:
    del draws
    scene_roles, motions = family.script.scene_roles, family.script.motions
    for thing in _cast(family):

        def says(film: int, thing: Thing = thing) -> str:
            return answer(motions[family.role(thing, film)])

        def scene(film: int, thing: Thing = thing) -> int:
            return scene_roles.index((family.role(thing, film),))

        yield kind, text.format(thing.name), says, scene


def _way(motion: Motion) -> str:
    return "in a circle" if motion.kind == HELD_OUT_MOTION else motion.kind


def _cast(family: Family) -> tuple[Thing, ...]:
    return tuple(family.players[role] for role in CAST)


def write_questions(
    directory: Path, *, num_families: int, seed: int, num_processes: int = 1, notify: Callable[[], None]
) -> Path:
    """Render families of test videos and write their questions.

    Args:
        directory: Files that are there are kept; more families change none of them.
        num_families: Of three videos each; 120 go once through every kind, number of scenes and holdout.
        seed: Of the test set.
        num_processes: Renderers.
        notify: Called for each video.

    Returns:
        Path of `questions.jsonl`; media are relative to it.

    Raises:
        SystemExit: The directory holds something else.
    """
    claim_directory(directory, kind="films", seed=seed)
    families = [draw_family(seed, index) for index in range(num_families)]
    films = [film for family in families for film in family.films]
    places = ((index, directory / _video(film.film_id)) for index, film in enumerate(films))
    render_films(partial(video_film, seed), places, num_processes=num_processes, notify=notify)
    path = directory / "questions.jsonl"
    write_json_lines(path, (row for family in families for row in question_rows(seed, family)))
    return path


def question_rows(seed: int, family: Family) -> Iterator[Mapping[str, Any]]:
    """Lines of `questions.jsonl`."""
    numbers = [0] * FAMILY_SIZE
    for question in family_questions(seed, family):
        film = family.films[question.film]
        numbers[question.film] += 1
        row: dict[str, Any] = {
            "id": f"{film.film_id}-{numbers[question.film]}",
            "video": _video(film.film_id),
            "question": question.text,
            "options": list(question.options),
            "answer": question.answer,
            "style": "texts",
        }
        if question.scene is not None:  # a quarter of a frame early: times of frames are not exact in files
            start = film.starts[question.scene]
            stop = start + film.scenes[question.scene].num_frames
            row |= {"start": max(0.0, (start - 0.25) / FPS), "end": (stop - 0.25) / FPS}
        row["tags"] = {
            "type": question.type,
            "scenes": str(len(film.scenes)),
            "held_out": family.held_out,
            "context": "long" if question.scene is None else "short",
        }
        yield row


def _video(film_id: str) -> str:
    return f"videos/{film_id}.mp4"
