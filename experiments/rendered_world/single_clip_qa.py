"""Questions about one clip each, worded as those of the test: they teach every arm the form of an answer.

Types go round with the index; what is held out never comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from experiments.rendered_world.attributes import COUNTS, FPS
from experiments.rendered_world.clips import (
    make_clip,
    stage_appearances,
    stage_kind,
    stage_pair,
    stage_sequence,
)
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.output import claim_directory, render_films, write_json_lines
from experiments.rendered_world.questions import LONG_TYPES, SHORT_TYPES, object_motion
from experiments.rendered_world.records import Event, Film, Motion
from experiments.rendered_world.staging import bounce, draw_things, linear, stage

__all__ = ["Asked", "ask_clip", "asked_film", "write_asked_clips"]

_TYPES = LONG_TYPES + SHORT_TYPES
_LONG_FRAMES = (3 * FPS, 4 * FPS)
_NUM_OPTIONS = 3


class Asked(NamedTuple):
    """A clip, a question of a type, and its answer."""

    film: Film
    type: str
    question: str
    answer: str


def ask_clip(seed: int, index: int) -> Asked:
    """Clip and question number `index`: a function of both alone."""
    draws = Draws(seed, "questions on clips", index)
    kind = _TYPES[index % len(_TYPES)]
    num_frames = draws.whole(*_LONG_FRAMES)
    makers: Mapping[str, Callable[[Draws, int], tuple[Events, str, str]]] = {
        "first": _first,
        "before-after": _before_after,
        "how-many": _how_many,
        "which-object": _which_object,
        "fine-motion": _way,
        "speed": _pace,
        "repetitions": _hops,
    }
    events, question, answer = makers[kind](draws, num_frames)
    film = make_clip(draws, f"{seed:04d}{index:07d}", num_frames, events)
    phrase = film.scenes[0].place.phrase
    return Asked(film, kind, question.format(place=phrase), answer)


def asked_film(seed: int, index: int) -> Film:
    """The clip of `ask_clip`."""
    return ask_clip(seed, index).film


Events = tuple[Event, ...]


def _name(event: Event) -> str:
    return f"a {event.thing.name}"


def _first(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    events = stage_pair(draws, num_frames) if draws.is_so(0.5) else _in_turn(draws, num_frames)
    return events, "What came first?", _name(events[0])


def _before_after(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    events = _in_turn(draws, num_frames)
    before, after = draws.one(tuple(pairwise(events)))
    if draws.is_so(0.5):
        return events, f"What came right before the {after.thing.name}?", _name(before)
    return events, f"What came right after the {before.thing.name}?", _name(after)


def _in_turn(draws: Draws, num_frames: int) -> Events:
    return stage_sequence(draws, num_frames, draws.whole(2, 3))


def _how_many(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    times = draws.whole(1, 3)
    if times == 1:
        events = stage_kind(draws, draws.one(("alone", "together")), num_frames)
    else:
        events = stage_appearances(draws, num_frames, times)
    return events, f"How many times does the {events[0].thing.name} appear?", COUNTS[times - 1]


def _which_object(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    if draws.is_so(0.3):
        events = stage_kind(draws, "alone", num_frames)
        return events, "Which object is on the {place}?", _name(events[0])
    events = _in_turn(draws, num_frames)
    event = draws.one(events)
    return events, f"Which object {object_motion(event.motion)}?", _name(event)


def _way(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    event = _alone(draws, num_frames, linear(draws))
    return (event,), f"Which way does the {event.thing.name} move?", event.motion.kind


def _pace(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    event = _alone(draws, num_frames, linear(draws))
    return (event,), f"How fast does the {event.thing.name} move?", str(event.motion.speed)


def _hops(draws: Draws, num_frames: int) -> tuple[Events, str, str]:
    event = _alone(draws, num_frames, bounce(draws.whole(1, 3)))
    text = f"How many times does the {event.thing.name} bounce?"
    return (event,), text, COUNTS[event.motion.num_hops - 1]


def _alone(draws: Draws, num_frames: int, motion: Motion) -> Event:
    (thing,) = draw_things(draws, 1)
    return stage(draws, thing, motion, (0, num_frames), lane=draws.whole(0, 1))


def write_asked_clips(
    directory: Path, *, num_clips: int, seed: int, num_processes: int = 1, notify: Callable[[], None]
) -> Path:
    """Render clips that are asked about.

    Args:
        directory: Files that are there are kept; more clips change none of them.
        num_clips: One question each.
        seed: Of the set.
        num_processes: Renderers.
        notify: Called for each clip.

    Returns:
        Path of `conversations.jsonl`: source of kind `conversations`, or a JSON list for the trainer; media
        are relative to it. The same questions lie beside it as `questions.jsonl`, for `weave-train evaluate`:
        three texts to choose from. Wrong ones are other things of the clip, if it has some, then answers to
        the next questions of that type.

    Raises:
        SystemExit: The directory holds something else.
    """
    claim_directory(directory, kind="asked clips", seed=seed)
    places = (
        (index, directory / "videos" / f"{asked_film(seed, index).film_id}.mp4") for index in range(num_clips)
    )
    render_films(partial(asked_film, seed), places, num_processes=num_processes, notify=notify)
    path = directory / "conversations.jsonl"
    write_json_lines(path, (_record(ask_clip(seed, index)) for index in range(num_clips)))
    write_json_lines(directory / "questions.jsonl", (_question(seed, index) for index in range(num_clips)))
    return path


def _record(asked: Asked) -> Mapping[str, Any]:
    turns = [{"from": "human", "value": asked.question}, {"from": "gpt", "value": asked.answer}]
    return {"id": asked.film.film_id, "video": _video(asked), "conversations": turns}


def _question(seed: int, index: int) -> Mapping[str, Any]:
    asked = ask_clip(seed, index)
    seen = [_name(event) for _, event in asked.film.events]
    later = (ask_clip(seed, other).answer for other in count(index + len(_TYPES), len(_TYPES)))
    texts = [asked.answer]
    for text in chain(seen if asked.answer in seen else [], later):
        if text not in texts:
            texts.append(text)
        if len(texts) == _NUM_OPTIONS:
            break
    options = sorted(texts)
    return {
        "id": asked.film.film_id,
        "video": _video(asked),
        "question": asked.question,
        "options": options,
        "answer": options.index(asked.answer),
        "style": "texts",
        "tags": {"type": asked.type},
    }


def _video(asked: Asked) -> str:
    return f"videos/{asked.film.film_id}.mp4"
