from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.rendered_world.attributes import COUNTS, FPS, HELD_OUT_MOTION, HELD_OUT_THINGS
from experiments.rendered_world.clips import clip_film
from experiments.rendered_world.drawing import draw_frame
from experiments.rendered_world.output import claim_directory
from experiments.rendered_world.records import Film, Thing
from experiments.rendered_world.training_set import write_clips
from experiments.rendered_world.words import caption, rewritten

SEED = 3
FILMS = [clip_film(SEED, index) for index in range(400)]
PART = re.compile(
    r"a (?P<size>small|large) (?P<colour>\w+) (?P<shape>\w+) (?:appears (?P<count>twice|three times) and )?"
    r"(?:moves (?P<way>left|right|up|down) (?P<speed>\w+)|bounces (?P<hops>once|twice|three times)"
    r"|stays still)"
)


def ignore() -> None:
    pass


def runs(shown: list[bool]) -> list[tuple[int, int]]:
    """Maximal runs of true, half-open."""
    edges = np.flatnonzero(np.diff(np.array([False, *shown, False]).astype(int))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def observed(film: Film, thing: Thing) -> dict[str, str | None]:
    """What somebody who sees every frame's positions, and no script, would say about a thing."""
    (scene,) = film.scenes
    places: list[tuple[float, float] | None] = []
    for frame in range(scene.num_frames):
        found = [
            event.centre(frame) for event in scene.events if event.thing == thing and event.is_shown(frame)
        ]
        places.append(found[0] if found else None)
    there = runs([place is not None for place in places])
    start, stop = max(there, key=lambda run: run[1] - run[0])
    path = np.array(places[start:stop])
    moved = path[-1] - path[0]
    way = speed = hops = None
    if np.ptp(path, axis=0).max() > 0.01:
        heights = path[:, 1]
        inner = (heights[1:-1] <= heights[:-2]) & (heights[1:-1] < heights[2:]) & (heights[1:-1] < 0.5)
        if np.ptp(path[:, 0]) == 0 and (np.diff(heights) > 0).any() and (np.diff(heights) < 0).any():
            hops = COUNTS[int(inner.sum()) - 1]
        else:
            axis = int(np.argmax(np.abs(moved)))
            way = (("left", "right"), ("up", "down"))[axis][int(moved[axis] > 0)]
            pace = abs(moved[axis]) / (len(path) - 1) * FPS
            speed = "slowly" if pace < 0.2 else "steadily" if pace < 0.45 else "quickly"
    count = COUNTS[len(there) - 1] if len(there) > 1 else None
    return {"way": way, "speed": speed, "hops": hops, "count": count}


def test_every_clause_of_a_caption_is_what_the_positions_show() -> None:
    for film in FILMS:
        (scene,) = film.scenes
        text = caption(scene)
        clauses = list(PART.finditer(text))
        order = list(dict.fromkeys(event.thing for event in sorted(scene.events, key=lambda e: e.start)))
        assert [(c["size"], c["colour"], c["shape"]) for c in clauses] == [
            (thing.size, thing.colour, thing.shape) for thing in order
        ]
        for clause, thing in zip(clauses, order, strict=True):
            said = {name: clause[name] for name in ("way", "speed", "hops", "count")}
            assert said == observed(film, thing), text


def test_while_means_overlap_and_then_means_none() -> None:
    links = set()
    for film in FILMS:
        (scene,) = film.scenes
        shown = [
            {event.thing for event in scene.events if event.is_shown(frame)}
            for frame in range(scene.num_frames)
        ]
        text = caption(scene)
        assert (" while " in text) == any(len(things) > 1 for things in shown)
        links |= {link for link in (" while ", ", then ") if link in text}
        assert shown[0]  # L = 16 is shown the first frame of a clip, and that is not empty
    assert links == {" while ", ", then "}


def test_a_caption_names_the_background_and_the_camera_only_where_it_can_be_seen_to_move() -> None:
    for film in FILMS:
        (scene,) = film.scenes
        end = f" on a {scene.place.phrase}"
        if scene.pan != "none":
            assert scene.place.layout != "plain"
            end += f" as the camera pans {scene.pan}"
        assert caption(scene).endswith(end)


def test_other_words_keep_things_ways_counts_and_places() -> None:
    facts = re.compile(
        r"\b(?:small|large|red|green|blue|yellow|purple|cyan|square|triangle|ring|cross|left|right|up|down|once|twice|"
        r"three|black|grey|white|pink|striped|checked|dotted)\b"
    )
    for index, film in enumerate(FILMS):
        (scene,) = film.scenes
        text = rewritten(scene, seed=SEED, index=index).replace("hops up and down", "hops")
        assert sorted(facts.findall(text)) == sorted(facts.findall(caption(scene)))
        assert text != caption(scene)


def test_speeds_keep_their_order_in_other_words() -> None:
    words = {"slowly": ("slow pace", "without haste"), "steadily": ("even pace", "medium pace")}
    words["quickly"] = ("fast pace", "rapidly")
    for index, film in enumerate(FILMS):
        text = rewritten(film.scenes[0], seed=SEED, index=index)
        for speed, others in words.items():
            assert caption(film.scenes[0]).count(speed) == sum(text.count(other) for other in others)


def test_no_clip_shows_or_names_what_is_held_out() -> None:
    for index in range(2000):
        (scene,) = clip_film(SEED, index).scenes
        for event in scene.events:
            assert (event.thing.colour, event.thing.shape) not in HELD_OUT_THINGS
            assert event.motion.kind != HELD_OUT_MOTION
        assert "circle" not in caption(scene) + rewritten(scene, seed=SEED, index=index)


def test_clips_last_two_to_four_seconds_and_a_clip_has_as_many_frames_as_a_sample() -> None:
    assert {film.num_frames for film in FILMS} == set(range(16, 33))


def test_a_clip_depends_on_seed_and_index_alone() -> None:
    assert [clip_film(SEED, index) for index in (399, 7, 0)] == [FILMS[399], FILMS[7], FILMS[0]]
    assert clip_film(SEED + 1, 7) != FILMS[7]


def test_a_frame_shows_a_thing_where_it_is_said_to_be_and_in_its_colour() -> None:
    film = next(f for f in FILMS if len(f.scenes[0].events) == 1 and f.scenes[0].place.layout == "plain")
    (scene,) = film.scenes
    (event,) = scene.events
    ground, _, _ = draw_frame(film, scene, scene.num_frames)  # past every event
    y, _, _ = draw_frame(film, scene, event.start)
    rows, columns = np.nonzero(np.abs(y.astype(int) - ground) > 2)
    x_ratio, y_ratio = event.centre(event.start)
    assert abs((columns.min() + columns.max() + 1) / 2 - x_ratio * film.width_px) < 2
    assert abs(rows.mean() - y_ratio * film.height_px) < 3


def test_rendered_files_are_the_same_bytes_alone_or_in_company_and_are_resumed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    catalog = write_clips(one, num_clips=3, seed=SEED, notify=ignore)
    write_clips(two, num_clips=2, seed=SEED, num_processes=2, notify=ignore)
    with catalog.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [caption(film.scenes[0]) for film in FILMS[:3]]
    last = two / "videos" / rows[2]["contentUrl"]
    (last.parent / f".{last.name}.99.tmp").write_bytes(b"cut off")
    first = two / "videos" / rows[0]["contentUrl"]
    before = first.stat().st_mtime_ns
    write_clips(two, num_clips=3, seed=SEED, notify=ignore)
    assert first.stat().st_mtime_ns == before
    for row in rows:
        digests = {
            hashlib.sha256((root / "videos" / row["contentUrl"]).read_bytes()).digest() for root in (one, two)
        }
        assert len(digests) == 1
    repeated = (one / "repeated-l4.csv").read_text(encoding="utf-8").splitlines()[1]
    assert repeated.count(rows[0]["name"]) == 4


def test_a_directory_of_another_seed_is_refused(tmp_path: Path) -> None:
    claim_directory(tmp_path, kind="clips", seed=1)
    claim_directory(tmp_path, kind="clips", seed=1)
    with pytest.raises(SystemExit, match="give another directory"):
        claim_directory(tmp_path, kind="clips", seed=2)
