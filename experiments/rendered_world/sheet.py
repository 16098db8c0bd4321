"""A picture of some films: a row each, frames from left to right, what is said below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from examples.demo.encoding import squeeze_planes
from experiments.rendered_world.drawing import draw_frame
from experiments.rendered_world.records import Film
from weave_data.frame_policy import linspace_indices

__all__ = ["draw_sheet"]

_GAP_PX, _TEXT_PX = 2, 14


def draw_sheet(
    path: Path, films: Sequence[tuple[Film, Sequence[str]]], *, num_frames: int = 16, side_px: int = 64
) -> None:
    """Draw films as a model is shown them: `num_frames` frames each, squeezed to squares.

    Args:
        path: A `.png` file.
        films: Each with lines of text.
        num_frames: T.
        side_px: Of a square.
    """
    step = side_px + _GAP_PX
    heights = [step + _TEXT_PX * len(lines) + 6 for _, lines in films]
    sheet = Image.new("RGB", (step * num_frames, sum(heights)), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (film, lines), height in zip(films, heights, strict=True):
        for column, frame in enumerate(linspace_indices(film.num_frames, num_frames).tolist()):
            scene, inside = film.locate(frame)
            planes = draw_frame(film, film.scenes[scene], inside)
            square = np.ascontiguousarray(squeeze_planes(planes, side_px).transpose(1, 2, 0))
            sheet.paste(Image.fromarray(square), (column * step, top))
        for row, line in enumerate(lines):
            pen.text((2, top + step + _TEXT_PX * row), line, fill="black")
        top += height
    sheet.save(path)
