from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from experiments.rendered_world.attributes import (
    COUNTS,
    FPS,
    HELD_OUT_MOTION,
    HELD_OUT_THINGS,
    NUM_SCENES,
    WOVEN_CLIPS,
)
from experiments.rendered_world.balance import measure_balance
from experiments.rendered_world.clips import clip_film
from experiments.rendered_world.films import FAMILY_SIZE, draw_family, video_film
from experiments.rendered_world.questions import (
    LONG_TYPES,
    SHORT_TYPES,
    Question,
    family_questions,
    question_rows,
    write_questions,
)
from experiments.rendered_world.records import Event, Film
from experiments.rendered_world.single_clip_qa import ask_clip
from experiments.rendered_world.words import caption

SEED = 5
FAMILIES = [draw_family(SEED, index) for index in range(120)]
"""Every kind, number of scenes and holdout once."""

ROWS = [row for family in FAMILIES for row in question_rows(SEED, family)]


def ignore() -> None:
    pass


def name(event: Event) -> str:
    return f"{event.thing.colour} {event.thing.shape}"


def t_frames(num_frames: int) -> list[list[int]]:
    """T = 16 uniform frames, both ways, worked out anew: both ends, and the middles of sixteenths."""
    ends = [int(i * ((num_frames - 1) / 15)) for i in range(15)] + [num_frames - 1]
    return [ends, [(2 * i + 1) * num_frames // 32 for i in range(16)]]


def glimpsed(film: Film, frames: list[int]) -> list[list[tuple[int, Event, tuple[float, float]]]]:
    """Scene, event and place of all that is there in some frames: what a perfect viewer has."""
    seen = []
    for frame in frames:
        scene, inside = 0, frame
        while inside >= film.scenes[scene].num_frames:
            inside -= film.scenes[scene].num_frames
            scene += 1
        seen.append(
            [
                (scene, event, event.centre(inside))
                for event in film.scenes[scene].events
                if event.start <= inside < event.stop
            ]
        )
    return seen


def viewed(film: Film, question: Question, frames: list[int]) -> str:
    """Answer a question from these frames alone."""
    seen = glimpsed(film, frames)
    shown = [[name(event) for _, event, _ in frame] for frame in seen]
    arrivals = [thing for before, now in pairwise([[], *shown]) for thing in now if thing not in before]
    text = question.text
    if text == "What came first?":
        return f"a {arrivals[0]}"
    if found := re.match(r"What came right (before|after) the (.*)\?", text):
        step = -1 if found[1] == "before" else 1
        return f"a {arrivals[arrivals.index(found[2]) + step]}"
    if found := re.match(r"How many times does the (.*) appear\?", text):
        return COUNTS[arrivals.count(found[1]) - 1]
    paths: dict[str, list[tuple[float, float]]] = {}
    for frame in seen:
        for _, event, place in frame:
            paths.setdefault(name(event), []).append(place)
    if found := re.match(r"Which object is on the (.*)\?", text):
        things = {name(e) for frame in seen for s, e, _ in frame if film.scenes[s].place.phrase == found[1]}
        (thing,) = things
        return f"a {thing}"
    if found := re.match(r"Which object moves (.*)\?", text):
        wanted = [f"a {thing}" for thing, path in paths.items() if way(path) == found[1]]
        (answer,) = set(wanted) & set(question.options)
        return answer
    found = re.match(r"(?:Which way|How fast|How many times) does the (.*) (?:move|bounce)\?", text)
    assert found is not None
    path = paths[found[1]]
    if question.type == "fine-motion":
        return way(path)
    gaps = [(b - a) / FPS for a, b in pairwise(frames)]
    if question.type == "speed":
        (x, y), (last_x, last_y) = path[0], path[-1]
        pace = max(abs(last_x - x), abs(last_y - y)) / (sum(gaps) / len(gaps) * (len(path) - 1))
        return "slowly" if pace < 0.2 else "steadily" if pace < 0.45 else "quickly"
    heights = [y for _, y in path]
    tops = [b for a, b, c in zip(heights, heights[1:], heights[2:], strict=False) if b < 0.5 and a >= b < c]
    return COUNTS[len(tops) - 1]


def way(path: list[tuple[float, float]]) -> str:
    x, y = path[-1][0] - path[0][0], path[-1][1] - path[0][1]
    width = max(p[0] for p in path) - min(p[0] for p in path)
    height = max(p[1] for p in path) - min(p[1] for p in path)
    if min(width, height) > 0.01:
        return "in a circle"
    if max(width, height) < 0.01 or max(abs(x), abs(y)) < 0.9 * max(width, height):
        return "nowhere"
    return (("up", "down")[y > 0]) if abs(y) > abs(x) else ("left", "right")[x > 0]


def test_every_answer_can_be_read_off_sixteen_uniform_frames() -> None:
    types = set()
    for family in FAMILIES:
        for question in family_questions(SEED, family):
            film = family.films[question.film]
            start, num_frames = 0, film.num_frames
            if question.scene is not None:
                start, num_frames = film.starts[question.scene], film.scenes[question.scene].num_frames
            for frames in t_frames(num_frames):
                answer = viewed(film, question, [start + frame for frame in frames])
                assert answer == question.options[question.answer], (family.index, question)
            types.add(question.type)
    assert types == {*LONG_TYPES, *SHORT_TYPES}


def test_videos_have_3_5_or_7_scenes_which_is_no_l() -> None:
    found = {len(film.scenes) for family in FAMILIES for film in family.films}
    assert found == set(NUM_SCENES) == {3, 5, 7}
    assert not found & set(WOVEN_CLIPS)


def test_no_scene_begins_at_a_sampled_frame_and_scenes_get_different_numbers_of_them() -> None:
    for family in FAMILIES:
        film = family.films[0]
        for frames in t_frames(film.num_frames):
            assert not set(film.starts[1:]) & set(frames)
            assert (
                len({len([f for f in frames if film.locate(f)[0] == i]) for i in range(len(film.scenes))}) > 1
            )


def test_scenes_last_differently_and_films_come_back_to_places() -> None:
    lengths = [scene.num_frames for family in FAMILIES for scene in family.films[0].scenes]
    assert len(set(lengths)) > 20
    assert 18 <= sorted(lengths)[len(lengths) // 2] <= 26
    sevens = [family.films[0] for family in FAMILIES if len(family.films[0].scenes) == 7]
    assert all(len({scene.place for scene in film.scenes}) < 7 for film in sevens)
    assert all(a.place != b.place for film in sevens for a, b in pairwise(film.scenes))


def test_events_overlap_things_return_and_cameras_pan() -> None:
    films = [family.films[0] for family in FAMILIES]
    scenes = [scene for film in films for scene in film.scenes]
    overlapping = [
        scene
        for scene in scenes
        if any(a.start < b.stop and b.start < a.stop for a, b in pairwise(scene.events))
    ]
    returning = [film for film in films if max(Counter(name(e) for _, e in film.events).values()) > 1]
    assert min(len(overlapping), len(returning), len([s for s in scenes if s.pan != "none"])) > 20


@pytest.mark.parametrize("balance", measure_balance(ROWS), ids=lambda balance: balance.type)
def test_no_blind_model_can_be_better_than_chance(balance: object) -> None:
    # even who knows, for every question and its options, how often each is right
    assert balance.best_place == balance.best_informed == pytest.approx(balance.chance)  # type: ignore[attr-defined]
    assert balance.chance == pytest.approx(1 / 3)  # type: ignore[attr-defined]
    error = (2 / 9 / balance.count) ** 0.5  # type: ignore[attr-defined]
    assert balance.best_text <= balance.chance + 3 * error  # type: ignore[attr-defined]


def test_a_family_asks_all_its_films_the_same_and_each_option_is_right_once() -> None:
    for family in FAMILIES:
        asked: dict[tuple[str, tuple[str, ...]], list[int]] = {}
        for question in family_questions(SEED, family):
            asked.setdefault((question.text, question.options), []).append(question.answer)
        assert all(sorted(answers) == [0, 1, 2] for answers in asked.values())
        times = [[(e.start, e.stop, e.motion) for _, e in film.events] for film in family.films]
        assert times[0] == times[1] == times[2]


def test_balance_notices_a_question_that_tells_its_answer() -> None:
    tags = {"type": "leaky"}
    rows = [
        {"question": f"Not {i}?", "options": ["a", "b"], "answer": i % 2, "tags": tags} for i in range(10)
    ]
    (balance,) = measure_balance(rows)
    assert (balance.best_place, balance.best_informed) == (0.5, 1.0)


def test_held_out_combinations_and_the_held_out_motion_are_in_their_marked_parts_only() -> None:
    trained = {
        (e.thing.colour, e.thing.shape) for i in range(500) for e in clip_film(SEED, i).scenes[0].events
    }
    for family in FAMILIES:
        events = [event for film in family.films for _, event in film.events]
        pairs = {(event.thing.colour, event.thing.shape) for event in events}
        circles = any(event.motion.kind == HELD_OUT_MOTION for event in events)
        assert circles == (family.held_out == "motion")
        assert bool(pairs & HELD_OUT_THINGS) == (family.held_out == "combination")
        if family.held_out == "combination":
            assert {(t.colour, t.shape) for t in family.players[:3]} <= HELD_OUT_THINGS
    assert not trained & HELD_OUT_THINGS
    shares = Counter(row["tags"]["held_out"] for row in ROWS)
    assert set(shares) == {"none", "combination", "motion"}
    assert min(shares.values()) > 0.1 * len(ROWS)


def test_the_default_test_set_holds_two_thousand_questions() -> None:
    assert 2 * len(ROWS) >= 2000  # 240 families; every 120 hold about as many
    assert min(Counter(row["tags"]["type"] for row in ROWS).values()) >= 120


def test_a_film_depends_on_seed_and_index_alone() -> None:
    draw_family.cache_clear()
    again = video_film(SEED, 17)
    assert again == FAMILIES[17 // FAMILY_SIZE].films[17 % FAMILY_SIZE]
    assert video_film(SEED + 1, 17) != again


def test_questions_on_disk_name_their_videos_and_a_scene_by_its_times(tmp_path: Path) -> None:
    path = write_questions(tmp_path, num_families=3, seed=SEED, notify=ignore)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["video"] for row in rows} == {
        str(p.relative_to(tmp_path)) for p in tmp_path.glob("videos/*.mp4")
    }
    assert all(row["style"] == "texts" and 0 <= row["answer"] < len(row["options"]) for row in rows)
    for row in rows:
        assert ("start" in row) == (row["tags"]["context"] == "short") == (row["tags"]["type"] in SHORT_TYPES)
    (film,) = [f for f in FAMILIES[2].films if rows[-1]["video"].endswith(f"{f.film_id}.mp4")]
    inside = [i for i in range(film.num_frames) if rows[-1]["start"] <= i / FPS < rows[-1]["end"]]
    assert len({film.locate(frame)[0] for frame in inside}) == 1
    assert len(inside) == film.scenes[film.locate(inside[0])[0]].num_frames


def test_single_clip_questions_are_worded_as_those_of_the_test_and_answered_truly() -> None:
    thing = r"(?:red|green|blue|yellow|purple|cyan) (?:square|triangle|ring|cross)"
    place = r"(?:black|grey|white|pink) (?:striped |checked |dotted )?background"

    def form(text: str) -> str:
        return re.sub(place, "PLACE", re.sub(thing, "THING", text))

    tested = {form(row["question"]) for row in ROWS} - {"Which object moves in a circle?"}
    asked = [ask_clip(SEED, index) for index in range(700)]
    assert tested <= {form(item.question) for item in asked}
    for item in asked:
        question = Question(
            0, item.type, item.question, tuple(f"a {name(e)}" for _, e in item.film.events), 0
        )
        if item.question.startswith(("Which object bounces", "Which object stays")):
            continue
        every = list(range(item.film.num_frames))
        assert viewed(item.film, question, every) == item.answer, (item, caption(item.film.scenes[0]))


def test_single_clip_questions_show_nothing_that_is_held_out_and_their_answers_are_spread() -> None:
    asked = [ask_clip(SEED, index) for index in range(2100)]
    for item in asked:
        for _, event in item.film.events:
            assert (event.thing.colour, event.thing.shape) not in HELD_OUT_THINGS
            assert event.motion.kind != HELD_OUT_MOTION
    for kind, num_answers in (("how-many", 3), ("fine-motion", 4), ("speed", 3), ("repetitions", 3)):
        answers = Counter(item.answer for item in asked if item.type == kind)
        assert len(answers) == num_answers
        assert max(answers.values()) < 1.35 * 300 / num_answers
