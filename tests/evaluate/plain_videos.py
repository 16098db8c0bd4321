"""Videos of plain colours."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

__all__ = ["COLOURS", "render"]

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "white": (220, 220, 220)}


def render(path: Path, colours: list[str], *, frames_each: int = 5) -> None:
    """A video of plain colours, one after the other, 10 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for colour in colours:
            picture = np.full((32, 48, 3), COLOURS[colour], dtype=np.uint8)
            for _ in range(frames_each):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
