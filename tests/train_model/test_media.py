"""Frames come in natural order, from folders, images and videos."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_video import levels, render
from tiny_rows import jpeg

from weave_data.errors import ConfigError, SourceError
from weave_train.config import ModelSettings
from weave_train.models.media import frames_from_folder, frames_from_path, natural_key
from weave_train.models.video import VideoReader, frames_from_video

SETTINGS = ModelSettings(num_frames=4)


def test_names_are_sorted_as_people_count() -> None:
    names = ["1.png", "2.png", "10.png", "a1b2.jpg", "a1b10.jpg", "a2.jpg", "B1.jpg", "b.jpg"]
    shuffled = random.Random(1).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == names


def test_a_folder_gives_its_images_in_order(tmp_path: Path) -> None:
    for number in (0, 2, 9, 10, 11):
        (tmp_path / f"frame{number}.jpg").write_bytes(bytes([number]))
    (tmp_path / "notes.txt").write_text("not a frame")
    assert frames_from_folder(tmp_path, SETTINGS) == [bytes([n]) for n in (0, 2, 9, 11)]
    whole = SETTINGS.model_copy(update={"num_frames": 5})
    assert frames_from_path(tmp_path, whole) == [bytes([n]) for n in (0, 2, 9, 10, 11)]


def test_what_holds_no_frames_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no image in it"):
        frames_from_folder(tmp_path, SETTINGS)
    with pytest.raises(SourceError, match="can't be read"):
        frames_from_folder(tmp_path / "none", SETTINGS)
    with pytest.raises(ConfigError, match="there is no file"):
        frames_from_path(tmp_path / "none.mp4", SETTINGS)


def test_a_path_is_what_it_is_named(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 20)
    (tmp_path / "one.PNG").write_bytes(jpeg((1, 2, 3)))
    assert levels(frames_from_path(tmp_path / "clip.mp4", SETTINGS)) == [0, 6, 12, 19]
    assert len(frames_from_path(tmp_path / "one.PNG", SETTINGS)) == 1


@pytest.mark.process
def test_videos_of_strangers_give_the_same_frames(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 20)
    reader = VideoReader(SETTINGS, timeout_seconds=60, memory_bytes=2**31)
    try:
        data = (tmp_path / "clip.mp4").read_bytes()
        assert reader.read(data) == frames_from_video(tmp_path / "clip.mp4", SETTINGS)
        with pytest.raises(SourceError, match="no frames can be decoded"):
            reader.read(b"no video")
        assert len(reader.read(data)) == 4
    finally:
        reader.close()


@pytest.mark.process
def test_a_part_of_a_video_is_seen_alone(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 20)  # 10 frames a second
    data = (tmp_path / "clip.mp4").read_bytes()
    reader = VideoReader(SETTINGS, timeout_seconds=60, memory_bytes=2**31)
    try:
        assert levels(reader.read(data, span_seconds=(0.5, 1.2))) == [5, 7, 9, 11]
        assert levels(reader.read(data, num_frames=2, span_seconds=(1.0, 60.0))) == [10, 19]
        assert levels(reader.read(data, num_frames=1, policy="segment-center")) == [10]
        assert levels(reader.read(data, span_seconds=(50.0, 60.0))) == [19, 19, 19, 19]
    finally:
        reader.close()
