"""Frames of a film, straight in the codec's planes: no colour converter stands between truth and file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from examples.demo.encoding import Planes
from examples.demo.shapes import Colour, coverage, draw_shape, ycbcr
from experiments.rendered_world.attributes import BACKGROUNDS, COLOURS, FPS
from experiments.rendered_world.records import Event, Film, Scene

__all__ = ["draw_film", "draw_frame"]

_PAN_SIDES_PER_SECOND = 0.25
_PAN_STEP = {"none": 0.0, "left": -_PAN_SIDES_PER_SECOND / FPS, "right": _PAN_SIDES_PER_SECOND / FPS}
_INK = {"black": (70, 70, 70), "grey": (175, 175, 175), "white": (185, 185, 185), "pink": (205, 120, 140)}
"""Colour of a layout's marks, by background."""


def draw_film(film: Film) -> Iterator[Planes]:
    """Draw a film frame by frame: a pure function of the film.

    Yields:
        Y uint8[height, width], Cb and Cr uint8[height / 2, width / 2]: BT.601, limited range.
    """
    for scene in film.scenes:
        for frame in range(scene.num_frames):
            yield draw_frame(film, scene, frame)


def draw_frame(film: Film, scene: Scene, frame: int) -> Planes:
    """Draw one frame of a scene. Later events stand in front of earlier ones."""
    size_px = film.width_px, film.height_px
    layers = [(_marks(scene.place.layout, size_px, shift=_PAN_STEP[scene.pan] * frame), _ink(scene))]
    layers += [
        (_silhouette(event, frame, size_px), COLOURS[event.thing.colour])
        for event in scene.events
        if event.is_shown(frame)
    ]
    planes = [
        np.full((film.height_px // step, film.width_px // step), shade)
        for step, shade in zip((1, 2, 2), ycbcr(BACKGROUNDS[scene.place.background]), strict=True)
    ]
    for cover, colour in layers:
        halved = cover.reshape(film.height_px // 2, 2, film.width_px // 2, 2).mean(axis=(1, 3))
        for number, (layer, paint) in enumerate(zip((cover, halved, halved), ycbcr(colour), strict=True)):
            planes[number] += layer * (paint - planes[number])
    y, cb, cr = (np.rint(plane).astype(np.uint8) for plane in planes)
    return y, cb, cr


def _ink(scene: Scene) -> Colour:
    return _INK[scene.place.background]


def _marks(layout: str, size_px: tuple[int, int], *, shift: float) -> NDArray[np.float64]:
    """Where the ground is marked: float64[height, width], 0 or 1; a pan to the right moves it left."""
    width, height = size_px
    side = min(size_px)
    x = (np.arange(width)[None, :] + 0.5) / side + shift
    y = (np.arange(height)[:, None] + 0.5) / side + 0.0 * x
    match layout:
        case "striped":
            marks = np.floor(x * 5.0) % 2 == 0
        case "checked":
            marks = (np.floor(x * 4.0) + np.floor(y * 4.0)) % 2 == 0
        case "dotted":
            marks = (x * 3.0 % 1.0 - 0.5) ** 2 + (y * 3.0 % 1.0 - 0.5) ** 2 < 0.09
        case _:
            marks = np.zeros(1, np.bool_)
    return np.broadcast_to(marks, (height, width)).astype(np.float64)


def _silhouette(event: Event, frame: int, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each pixel that a thing covers: float64[height, width]."""
    width, height = size_px
    x, y = event.centre(frame)
    centre = np.array([x * width, y * height])
    radius_px = event.radius_ratio * min(size_px)
    if event.thing.shape in ("square", "triangle"):
        return draw_shape(event.thing.shape, size_px=size_px, centre=centre, radius_px=radius_px)
    across = np.abs(np.arange(width)[None, :] + 0.5 - centre[0])
    down = np.abs(np.arange(height)[:, None] + 0.5 - centre[1])
    if event.thing.shape == "ring":
        distance = np.sqrt(across * across + down * down)
        return coverage(np.abs(distance - 0.75 * radius_px) - 0.25 * radius_px)
    arm_px = 0.3 * radius_px
    level = np.maximum(across - radius_px, down - arm_px)
    upright = np.maximum(across - arm_px, down - radius_px)
    return coverage(np.minimum(level, upright))
