"""A little JSON list of every form, with its media."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rendering import Rendering, render_video

NUM_FRAMES = 24


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def records() -> list[dict[str, Any]]:
    """Two videos, one image, two frames, text only; then ids that repeat."""
    return [
        {
            "id": "woven",
            "videos": ["a.mp4", "b.mp4"],
            "num_frames_per_video": 3,
            "conversations": turns("<image>\nDescribe it.", "first clip. second clip."),
        },
        {
            "id": "photo",
            "image": "photo.jpg",
            "conversations": turns("<image>\nWhat is it?", "a grey square."),
        },
        {
            "id": "pair",
            "frames": ["v/0000.png", "v/0001.png"],
            "conversations": turns("What changes?\n<image>", "the colour."),
        },
        {"id": "text", "conversations": turns("What is two and two?", "four")},
        {"id": "photo", "image": "photo.jpg", "conversations": turns("<image>\nHow large?", "small")},
        {"id": "one", "video": "a.mp4", "conversations": turns("<image>\nDescribe it.", "one clip.")},
    ]


def write_media(root: Path) -> None:
    """Videos whose frame numbers are burned in, and images."""
    (root / "v").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (root / name).write_bytes(render_video(Rendering(num_frames=NUM_FRAMES, width=160, height=96)))
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(root / "photo.jpg")
    for index, level in enumerate((10, 240)):
        Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(root / "v" / f"{index:04d}.png")


def write_list(path: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    path.write_text(json.dumps(records() if rows is None else rows, indent=2))
    return path
