"""A rendered world: short clips of one moving coloured shape, with captions that are true.

    World (what can happen) -> Scene (what happens in one clip) -> planes -> mp4 + one CSV row

The layout is WebVid's: `clips.csv` (videoid, contentUrl, duration, page_dir, name) beside
`videos/<page_dir>/<videoid>.mp4`. A scene depends on (seed, clip number) alone: asking for more
clips never changes the first ones, and held-out clips take their numbers from another range.

Shapes are drawn straight into the codec's Y, Cb and Cr planes (BT.601, limited range), so no
colour converter, whose output depends on the CPU, stands between the truth and the file.

    python examples/demo/world.py DIRECTORY --clips 400 --seed 7
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from encoding import Planes, encode_planes
from numpy.typing import NDArray
from shapes import SHAPES, Colour, draw_shape, ycbcr

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "DIRECTIONS",
    "SHAPES",
    "Scene",
    "World",
    "draw_frame",
    "draw_scene",
    "render_world",
]

Split = Literal["train", "heldout"]

COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "red": (225, 30, 30),
        "green": (30, 170, 50),
        "blue": (40, 70, 230),
        "yellow": (240, 220, 30),
        "purple": (170, 50, 200),
        "cyan": (40, 215, 225),
    }
)
BACKGROUNDS: Mapping[str, Colour] = MappingProxyType(
    {"black": (16, 16, 16), "grey": (128, 128, 128), "white": (240, 240, 240)}
)
DIRECTIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
)
"""Unit steps (x, y) in image coordinates: y grows downwards."""

_FIRST_CLIP: Mapping[str, int] = MappingProxyType({"train": 1_000_000, "heldout": 5_000_000})
_CLIPS_PER_PAGE = 50
_CSV_COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name")


@dataclass(frozen=True)
class World:
    """What can happen in a clip; every choice is uniform and independent.

    Args:
        colours: Name to RGB of the shape.
        backgrounds: Name to RGB of the plain background.
        directions: Name to unit step (x, y).
        shapes: Names `draw_shape` knows.
        size_px: Range of width and of height, both ends possible; even numbers are drawn.
        radius_ratio: Range of the shape's radius over the shorter side.
        travel_ratio: Range of the path's length over the side it runs along, centred in the frame.
        seconds: Length of a clip.
        fps: Frames per second.
    """

    colours: Mapping[str, Colour] = field(default_factory=lambda: COLOURS)
    backgrounds: Mapping[str, Colour] = field(default_factory=lambda: BACKGROUNDS)
    directions: Mapping[str, tuple[int, int]] = field(default_factory=lambda: DIRECTIONS)
    shapes: tuple[str, ...] = SHAPES
    size_px: tuple[int, int] = (64, 128)
    radius_ratio: tuple[float, float] = (0.26, 0.34)
    travel_ratio: tuple[float, float] = (0.85, 1.0)
    seconds: float = 2.0
    fps: int = 12

    @property
    def num_frames(self) -> int:
        """Frames of every clip, at least 1."""
        return max(1, round(self.seconds * self.fps))

    def scene(self, *, seed: int, clip_number: int) -> Scene:
        """Choose what happens in one clip: a function of the seed and the clip's number alone."""
        rng = np.random.Generator(np.random.Philox(key=(seed << 64) | clip_number))
        low, high = self.size_px
        return Scene(
            clip_id=str(clip_number),
            colour=str(rng.choice(list(self.colours))),
            shape=str(rng.choice(list(self.shapes))),
            direction=str(rng.choice(list(self.directions))),
            background=str(rng.choice(list(self.backgrounds))),
            width_px=2 * int(rng.integers((low + 1) // 2, high // 2 + 1)),
            height_px=2 * int(rng.integers((low + 1) // 2, high // 2 + 1)),
            radius_ratio=float(rng.uniform(*self.radius_ratio)),
            travel_ratio=float(rng.uniform(*self.travel_ratio)),
            lane_ratio=float(rng.uniform(0.3, 0.7)),
        )


@dataclass(frozen=True)
class Scene:
    """What happens in one clip. `lane_ratio` places the path on the side it does not run along."""

    clip_id: str
    colour: str
    shape: str
    direction: str
    background: str
    width_px: int
    height_px: int
    radius_ratio: float
    travel_ratio: float
    lane_ratio: float

    @property
    def caption(self) -> str:
        """The truth, in one clause: `a red circle moves left on a grey background`."""
        return f"a {self.colour} {self.shape} moves {self.direction} on a {self.background} background"

    @property
    def page_dir(self) -> str:
        """WebVid's folder of a clip: the range of numbers it falls in."""
        start = int(self.clip_id) // _CLIPS_PER_PAGE * _CLIPS_PER_PAGE
        return f"{start:07d}_{start + _CLIPS_PER_PAGE - 1:07d}"

    @property
    def radius_px(self) -> float:
        """Half the shape's extent."""
        return self.radius_ratio * min(self.width_px, self.height_px)

    def centres(self, *, num_frames: int, step: tuple[int, int]) -> NDArray[np.float64]:
        """Centre of the shape in every frame.

        Returns:
            float64[num_frames, 2]: x and y in pixels, at constant speed along `step`.
        """
        progress = self.travel_ratio * (np.linspace(0.0, 1.0, num_frames) - 0.5)[:, None]
        size = np.array([self.width_px, self.height_px], dtype=np.float64)
        along = np.array(step, dtype=np.float64)
        lane = np.where(along == 0.0, self.lane_ratio, 0.5)
        return np.asarray((lane + progress * along) * size)


def draw_scene(scene: Scene, *, world: World) -> Iterator[Planes]:
    """Draw a clip, frame by frame.

    Yields:
        Y uint8[height, width], Cb and Cr uint8[height / 2, width / 2].
    """
    step = world.directions[scene.direction]
    for centre in scene.centres(num_frames=world.num_frames, step=step):
        yield draw_frame(scene, world=world, centre=centre)


def draw_frame(scene: Scene, *, world: World, centre: NDArray[np.float64]) -> Planes:
    """Draw a scene's shape in one place, as planes (see `draw_scene`).

    Args:
        scene: What is drawn.
        world: Colours of its names.
        centre: float64[2], x and y of the shape's centre in pixels.
    """
    shade = np.array(ycbcr(world.backgrounds[scene.background]))
    paint = np.array(ycbcr(world.colours[scene.colour]))
    size_px = (scene.width_px, scene.height_px)
    inside = draw_shape(scene.shape, size_px=size_px, centre=centre, radius_px=scene.radius_px)
    halved = inside.reshape(scene.height_px // 2, 2, scene.width_px // 2, 2).mean(axis=(1, 3))
    y, cb, cr = (
        np.rint(shade[i] + layer * (paint[i] - shade[i])).astype(np.uint8)
        for i, layer in enumerate((inside, halved, halved))
    )
    return y, cb, cr


def render_world(
    directory: Path | str,
    *,
    num_clips: int,
    seed: int,
    split: Split = "train",
    size_px: tuple[int, int] = (64, 128),
    seconds: float = 2.0,
    fps: int = 12,
    caption: Callable[[Scene], str] = attrgetter("caption"),
) -> Path:
    """Render clips in WebVid's layout.

    Args:
        directory: Created if needed; files of the same names are replaced.
        num_clips: Clips to render, at least 1.
        seed: Same seed, same bytes; at least 0.
        split: `train` and `heldout` clips share no clip number.
        size_px: Range of width and of height.
        seconds: Length of a clip.
        fps: Frames per second.
        caption: What is written about a scene.

    Returns:
        Path of the CSV catalog; videos lie in `videos/` beside it.
    """
    root = Path(directory)
    world = World(size_px=size_px, seconds=seconds, fps=fps)
    rows = []
    for clip_number in range(_FIRST_CLIP[split], _FIRST_CLIP[split] + num_clips):
        scene = world.scene(seed=seed, clip_number=clip_number)
        key = f"{scene.page_dir}/{scene.clip_id}.mp4"
        path = root / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_planes(path, draw_scene(scene, world=world), fps=world.fps)
        duration = f"PT00H00M{round(seconds):02d}S"
        rows.append((scene.clip_id, key, duration, scene.page_dir, caption(scene)))
    return write_catalog(root / "clips.csv", rows)


def write_catalog(path: Path, rows: list[tuple[str, str, str, str, str]]) -> Path:
    """Write a WebVid CSV: videoid, contentUrl (relative to `videos/`), duration, page_dir, name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_CSV_COLUMNS)
        writer.writerows(rows)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Render clips of one moving coloured shape.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--fps", type=int, default=12)
    asked = parser.parse_args()
    catalog = render_world(
        asked.directory,
        num_clips=asked.clips,
        seed=asked.seed,
        split=asked.split,
        seconds=asked.seconds,
        fps=asked.fps,
    )
    print(f"{asked.clips} clips: {catalog}")


if __name__ == "__main__":
    main()
