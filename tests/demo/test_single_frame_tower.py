from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import single_frame_tower
import torch
from rich.console import Console
from single_frame_tower import single_frames, train_tower
from world import COLOURS, World

from weave_train.config import ModelSettings
from weave_train.models.vision import build_tower, tower_sha256


def test_a_frame_shows_its_colour_where_its_place_says() -> None:
    pixels, names, places = single_frames(20, seed=3, side_px=32)
    assert (pixels.shape, pixels.dtype) == ((20, 3, 32, 32), torch.uint8)
    colours = np.array(list(COLOURS.values()))
    for frame, (colour, _), place in zip(pixels.numpy(), names.tolist(), places.numpy(), strict=True):
        x, y = np.minimum((place * 32).astype(int), 31)
        seen = frame[:, y, x].astype(int)
        assert np.abs(colours - seen).sum(1).argmin() == colour  # its centre is in the shape


def test_scenes_are_none_of_the_clips() -> None:
    first = single_frame_tower._FIRST_SCENE
    clips = {World().scene(seed=7, clip_number=number) for number in range(first, first + 3)}
    assert {scene.clip_id for scene in clips}.isdisjoint(
        str(number) for start in (1_000_000, 5_000_000) for number in range(start, start + 100_000)
    )


def test_the_tower_is_read_as_vision_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_frame_tower, "_NUM_FRAMES", 80)
    monkeypatch.setattr(single_frame_tower, "_NUM_CHECKED", 10)
    console = Console(record=True, width=200)
    path = train_tower(tmp_path / "tower.safetensors", seed=7, num_steps=3, console=console)
    assert "place off by" in console.export_text()
    read = tower_sha256(build_tower(ModelSettings(seed=7, vision_weights=str(path))))
    again = train_tower(tmp_path / "again.safetensors", seed=7, num_steps=3, console=console)
    assert read == tower_sha256(build_tower(ModelSettings(seed=9, vision_weights=str(again))))
    assert read != tower_sha256(build_tower(ModelSettings(seed=7)))  # it learned something
    assert train_tower(path, seed=1, num_steps=0, console=console) == path  # what is there is kept
