"""Measures against plain numpy definitions, and their bounds on pictures whose answer is known."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image
from rendering import Rendering, render_video

from weave_data.decode.job import ClipJob, PictureFormat
from weave_data.decode.measures import ClipMeasures
from weave_data.decode.pyav_decoder import PyavDecoder
from weave_data.decode.worker import decode_clip
from weave_data.frame_policy import FrameAsk


def measured(*frames: np.ndarray) -> dict:
    measures = ClipMeasures()
    for frame in frames:
        measures.add(frame)
    return measures.result(b"bytes", 31, 1.2, size=(9, 7))


def flat(level: int) -> np.ndarray:
    return np.full((60, 90, 3), level, dtype=np.uint8)


def test_measures_are_their_definitions() -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (100, 140, 3), dtype=np.uint8) for _ in range(4)]
    small = [
        np.asarray(
            Image.fromarray(frame)
            .convert("L")
            .resize((128, 128), Image.Resampling.BILINEAR, reducing_gap=1.0)
        )
        / 255
        for frame in frames
    ]
    result = measured(*frames)
    assert result["luma"] == pytest.approx(np.mean(small))
    moves = [np.abs(a - b).mean() for a, b in itertools.pairwise(small)]
    assert result["motion"] == pytest.approx(np.mean(moves))
    scores = []
    for luma in (255 * frame for frame in small):
        laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
        scores.append(laplacian.var() / (laplacian.var() + 100))
    assert result["sharpness"] == pytest.approx(np.mean(scores))
    assert (result["duration_seconds"], result["frame_rate"]) == (pytest.approx(1.24), pytest.approx(25))
    assert result["sha256"] == hashlib.sha256(b"bytes").hexdigest()


def test_black_and_blank_frames_count_and_dark_pictures_do_not() -> None:
    dark = flat(5)
    dark[:20, :30] = 60  # something is there
    faint = flat(8)
    faint[::2] = 11
    assert measured(flat(0), flat(255), faint, dark)["black_fraction"] == 0.75
    assert measured(flat(200))["black_fraction"] == 1.0
    assert measured(dark)["black_fraction"] == 0.0


def test_motion_sharpness_and_luma_know_their_ends() -> None:
    still = measured(flat(255), flat(255))
    assert (still["motion"], still["sharpness"], still["luma"]) == (0.0, 0.0, 1.0)
    assert measured(flat(0), flat(255))["motion"] == 1.0
    edges = np.kron(np.arange(60 * 90).reshape(60, 90) % 2 * 255, np.ones((4, 4)))[..., None].repeat(3, -1)
    sharp = edges.astype(np.uint8)
    blurred = np.asarray(Image.fromarray(sharp).resize((20, 12)).resize((360, 240)))
    assert measured(sharp)["sharpness"] > 0.9 > 0.2 > measured(blurred)["sharpness"]


def test_a_clip_is_measured_on_its_linspace_4_frames_whatever_is_asked() -> None:
    data = render_video(Rendering(rotation_degrees=90, num_frames=40))
    asks = [(FrameAsk("linspace", 1),), (FrameAsk("fps", 7, 3.0), FrameAsk("linspace", 16))]
    picture = PictureFormat(48)
    results = [decode_clip(PyavDecoder(), data, ClipJob(ask, measure=True), picture) for ask in asks]
    assert results[0].quality == results[1].quality
    assert [index for index, _, _ in results[0].frames] == [0]
    measures = ClipMeasures()
    PyavDecoder().decode(data, choose=lambda n, _: [0, 13, 26, 39], keep=lambda _, rgb: measures.add(rgb))
    assert results[0].quality == measures.result(data, 40, 39 / 25, size=(96, 64))
    assert decode_clip(PyavDecoder(), data, ClipJob(asks[0]), picture).quality is None
    assert results[0].source_seconds == pytest.approx(39 / 25)
