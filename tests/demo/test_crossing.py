from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crossing import ENDS, crossing_caption, parse_crossing
from looking import CHANCE, Answered, Description, Question, look
from world import DIRECTIONS, World, render_world

PLACES = {"left": (0, 0.0), "right": (0, 1.0), "top": (1, 0.0), "bottom": (1, 1.0)}
"""Axis and coordinate, y grows downwards."""


def scenes(num_scenes: int) -> list:
    return [World().scene(seed=7, clip_number=number) for number in range(num_scenes)]


def test_a_shape_is_where_its_caption_says_in_the_first_and_in_the_last_frame() -> None:
    world = World()
    for scene in scenes(200):
        centres = scene.centres(num_frames=24, step=DIRECTIONS[scene.direction])
        places = centres / (scene.width_px, scene.height_px)
        words = crossing_caption(scene).split()
        start, stop = (words[words.index(word) + 1] for word in ("from", "to"))
        for name, place in ((start, places[0]), (stop, places[-1])):
            axis, edge = PLACES[name]
            assert abs(place[axis] - edge) < 0.1
            assert 0.25 < place[1 - axis] < 0.75  # and nowhere near another edge
        assert world.directions[scene.direction] == tuple(np.sign(places[-1] - places[0]).astype(int))


def test_a_caption_names_the_scene_s_colour() -> None:
    assert all(f"a {scene.colour} shape" in crossing_caption(scene) for scene in scenes(50))


def test_every_caption_can_be_read_back() -> None:
    for scene in scenes(200):
        assert parse_crossing(crossing_caption(scene)) == Description(scene.colour, scene.direction)


@pytest.mark.parametrize(
    ("answer", "direction"),
    [
        ("A Blue shape goes FROM the right TO the left.", "left"),
        ("a blue shape goes from bottom to top", "up"),
        ("a blue shape goes from left to left", None),
        ("a blue shape goes from left to top", None),
        ("a blue shape goes to left from right", None),
        ("a blue shape moves up to the right", None),
        ("a blue shape goes from right to", None),
    ],
)
def test_a_path_that_no_clip_takes_claims_no_direction(answer: str, direction: str | None) -> None:
    assert parse_crossing(answer) == Description("blue", direction)


def test_silence_claims_nothing() -> None:
    assert parse_crossing("") == Description(None, None)


def test_the_four_paths_are_told_apart_and_chance_is_the_demo_s() -> None:
    assert len(set(ENDS.values())) == len(ENDS) == round(1 / CHANCE.direction)
    assert set(ENDS) == set(DIRECTIONS)


def test_answers_are_scored_by_their_paths() -> None:
    captions = [f"a red shape goes from {start} to {stop}" for start, stop in ENDS.values()]
    answered = [Answered(Question((b"",), (caption,)), caption) for caption in captions]
    looked = look(answered, read=parse_crossing)
    assert (looked.seen.colour, looked.seen.direction) == (1.0, 1.0)
    assert (looked.exchanged.colour, looked.exchanged.direction) == (1.0, 0.0)
    backwards = [
        Answered(item.question, f"a red shape goes from {stop} to {start}")
        for item, (start, stop) in zip(answered, ENDS.values(), strict=True)
    ]
    assert look(backwards, read=parse_crossing).seen.direction == 0.0


def test_a_rendered_catalog_has_the_captions_it_was_asked_for(tmp_path: Path) -> None:
    catalogs = [
        render_world(tmp_path / name, num_clips=2, seed=7, seconds=0.5, **options).read_text().splitlines()
        for name, options in (("own", {"caption": crossing_caption}), ("demo", {}))
    ]
    first, second = (World(seconds=0.5).scene(seed=7, clip_number=1_000_000 + index) for index in range(2))
    assert [line.rpartition(",")[2] for line in catalogs[0][1:]] == [
        crossing_caption(first),
        crossing_caption(second),
    ]
    assert [line.rpartition(",")[2] for line in catalogs[1][1:]] == [first.caption, second.caption]
