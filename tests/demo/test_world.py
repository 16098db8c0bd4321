from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from shapes import SHAPES, draw_shape
from world import BACKGROUNDS, COLOURS, DIRECTIONS, Scene, World, render_world

NUM_CLIPS = 24
Row = dict[str, str]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_world(tmp_path_factory.mktemp("world"), num_clips=NUM_CLIPS, seed=3)


def rows_of(catalog: Path) -> list[Row]:
    with catalog.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def frames_of(catalog: Path, row: Row) -> NDArray[np.uint8]:
    path = catalog.parent / "videos" / row["contentUrl"]
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def words_of(row: Row) -> Row:
    words = row["name"].split()
    return {"colour": words[1], "shape": words[2], "direction": words[4], "background": words[7]}


def shape_masks(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.bool_]]:
    for frame in frames.astype(int):
        yield np.abs(frame - frame[0, 0]).sum(axis=2) > 90


def centroids(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """float64[num_frames, 2]: x and y as shares of width and height."""
    height, width = frames.shape[1:3]
    spots = [np.argwhere(mask).mean(axis=0)[::-1] + 0.5 for mask in shape_masks(frames)]
    return np.array(spots) / (width, height)


def test_the_catalog_is_webvid_s_and_every_video_is_where_it_says(catalog: Path) -> None:
    rows = rows_of(catalog)
    assert list(rows[0]) == ["videoid", "contentUrl", "duration", "page_dir", "name"]
    assert len(rows) == NUM_CLIPS == len({row["videoid"] for row in rows})
    for row in rows:
        assert row["contentUrl"] == f"{row['page_dir']}/{row['videoid']}.mp4"
        assert (catalog.parent / "videos" / row["contentUrl"]).stat().st_size > 500


def test_the_caption_s_colours_are_the_pixels_colours(catalog: Path) -> None:
    for row in rows_of(catalog):
        frames, words = frames_of(catalog, row), words_of(row)
        x, y = centroids(frames)[len(frames) // 2] * frames.shape[2:0:-1]
        centre = frames[len(frames) // 2, int(y), int(x)].astype(int)
        near = min(COLOURS, key=lambda name: int(np.abs(centre - COLOURS[name]).sum()))
        assert near == words["colour"], row["name"]
        corner = frames[0, 0, 0].astype(int)
        assert np.abs(corner - BACKGROUNDS[words["background"]]).max() < 12, row["name"]


def test_the_shape_moves_where_the_caption_says_and_crosses_the_middle(catalog: Path) -> None:
    for row in rows_of(catalog):
        path = centroids(frames_of(catalog, row))
        step = np.array(DIRECTIONS[words_of(row)["direction"]])
        along = (path - 0.5) @ step
        assert np.all(np.diff(along) > 0), row["name"]
        assert along[0] < -0.25, row["name"]
        assert along[-1] > 0.25, row["name"]
        assert np.ptp(path @ (1 - np.abs(step))) < 0.03, row["name"]


def test_sizes_stay_in_the_range_asked_for_and_clips_last_as_long_as_asked(tmp_path: Path) -> None:
    catalog = render_world(tmp_path, num_clips=6, seed=1, size_px=(40, 48), seconds=1.5, fps=10)
    for row in rows_of(catalog):
        num_frames, height, width, _ = frames_of(catalog, row).shape
        assert num_frames == 15
        assert {height, width} <= set(range(40, 49, 2))


def test_two_renderings_are_the_same_bytes_and_more_clips_change_none(catalog: Path, tmp_path: Path) -> None:
    again = render_world(tmp_path, num_clips=4, seed=3)
    for row in rows_of(again):
        key = f"videos/{row['contentUrl']}"
        assert (tmp_path / key).read_bytes() == (catalog.parent / key).read_bytes()
    assert rows_of(again) == rows_of(catalog)[:4]


def test_heldout_clips_and_other_seeds_are_other_clips(tmp_path: Path) -> None:
    heldout = rows_of(render_world(tmp_path / "a", num_clips=8, seed=3, split="heldout"))
    train = rows_of(render_world(tmp_path / "b", num_clips=8, seed=3))
    other = rows_of(render_world(tmp_path / "c", num_clips=8, seed=4))
    assert not {row["videoid"] for row in heldout} & {row["videoid"] for row in train}
    assert [row["name"] for row in heldout] != [row["name"] for row in train]
    assert [row["name"] for row in other] != [row["name"] for row in train]


def test_every_choice_of_the_world_is_about_equally_frequent() -> None:
    scenes = [World().scene(seed=5, clip_number=number) for number in range(3000)]
    for noun, choices in (("colour", COLOURS), ("direction", DIRECTIONS), ("shape", SHAPES)):
        counts = [sum(getattr(scene, noun) == choice for scene in scenes) for choice in choices]
        assert sum(counts) == 3000
        assert max(counts) < 1.2 * 3000 / len(choices)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fills_its_centre_and_stays_within_its_extent(shape: str) -> None:
    alpha = draw_shape(shape, size_px=(60, 50), centre=np.array([30.0, 25.0]), radius_px=12.0)
    assert alpha.shape == (50, 60)
    assert alpha[25, 30] == 1.0
    assert 0.25 < alpha.sum() / (4 * 12.0**2) < 0.95
    ys, xs = np.nonzero(alpha)
    assert max(abs(xs + 0.5 - 30).max(), abs(ys + 0.5 - 25).max()) < 1.4 * 12.0
    assert np.any((alpha > 0.05) & (alpha < 0.95))


def test_an_unknown_shape_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="'star' can't be drawn; one of circle"):
        draw_shape("star", size_px=(8, 8), centre=np.zeros(2), radius_px=1.0)


def test_the_caption_is_the_scene_in_one_clause() -> None:
    scene = Scene("1000007", "red", "circle", "left", "grey", 64, 64, 0.2, 0.6, 0.5)
    assert scene.caption == "a red circle moves left on a grey background"
    assert scene.page_dir == "1000000_1000049"
