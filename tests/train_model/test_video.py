"""A video that is asked about is sampled and compressed as the training frames were."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from weave_data.config import FramesConfig
from weave_data.decode.job import PictureFormat
from weave_data.decode.picture import encode_picture
from weave_data.errors import SourceError
from weave_train.config import ModelSettings
from weave_train.models.video import frames_from_video


def render(path: Path, num_frames: int, *, width: int = 96, height: int = 64) -> None:
    """Frame i is a plain grey of level 40 + 8 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(num_frames):
            picture = np.full((height, width, 3), 40 + 8 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def levels(frames: list[bytes]) -> list[int]:
    means = [np.asarray(Image.open(io.BytesIO(data))).mean() for data in frames]
    return [round((mean - 40) / 8) for mean in means]


def settings(**frames: int) -> ModelSettings:
    return ModelSettings(num_frames=4, frames=FramesConfig(**frames))


def test_frames_are_spread_over_the_video_with_both_ends(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 20)
    assert levels(frames_from_video(tmp_path / "clip.mp4", settings())) == [0, 6, 12, 19]
    assert levels(frames_from_video(tmp_path / "clip.mp4", settings(), num_frames=2)) == [0, 19]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"frame_policy": "segment-center"}, [2, 7, 12, 17]),
        ({"frame_policy": "fps", "fps": 5.0}, [0, 2, 4, 6]),
        ({"frame_policy": "random-sorted"}, [0, 6, 12, 19]),
    ],
)
def test_a_video_is_sampled_as_the_run_was_trained_to_see_it(tmp_path: Path, chosen, expected) -> None:
    render(tmp_path / "clip.mp4", 20)
    run = ModelSettings(num_frames=4, **chosen)
    assert levels(frames_from_video(tmp_path / "clip.mp4", run)) == expected


def test_a_video_with_fewer_frames_repeats_some(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 2)
    assert levels(frames_from_video(tmp_path / "clip.mp4", settings())) == [0, 0, 0, 1]


def test_frames_have_the_size_and_the_bytes_that_a_build_stores(tmp_path: Path) -> None:
    render(tmp_path / "clip.mp4", 4)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        pictures = [
            frame.to_ndarray(format="rgb24", interpolation=0x2 | 0x40000 | 0x80000)
            for frame in container.decode(video=0)
        ]
    frames = frames_from_video(tmp_path / "clip.mp4", settings(short_side_px=32, quality=60))
    stored = PictureFormat(32, quality=60)
    assert frames == [encode_picture(picture, size=(48, 32), picture=stored) for picture in pictures]


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video at all, only words")
    with pytest.raises(SourceError, match=r"text\.mp4: no frames can be decoded"):
        frames_from_video(tmp_path / "text.mp4", settings())
    with pytest.raises(SourceError, match=r"gone\.mp4: can't be read"):
        frames_from_video(tmp_path / "gone.mp4", settings())
