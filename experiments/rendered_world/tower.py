"""A small vision tower trained on single frames of this world: colours, shapes, sizes and places.

    one frame, 32 px -> video-tiny-vit -> 4 tokens -> which colours there are; of each its shape, size, place

Frames come from a stream of their own, no clip or film shows one of their scenes, and each frame stands
alone: nothing here knows that things move, in which order they come, or what is held out: combinations that
no clip shows are not shown here either. The file is in timm's layout, for `--model.vision_weights`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import nn

from examples.demo.encoding import squeeze_planes
from experiments.rendered_world.attributes import BACKGROUNDS, COLOURS, LAYOUTS, SHAPES, SIZES
from experiments.rendered_world.drawing import draw_frame
from experiments.rendered_world.draws import Draws
from experiments.rendered_world.records import Event, Film, Motion, Scene
from experiments.rendered_world.staging import draw_place, draw_side, draw_things, stage
from weave_train.config import ModelSettings
from weave_train.models.vision import VisionTower, build_tower

__all__ = ["Frames", "Probe", "single_frames", "train_tower"]

_NUM_FRAMES, _NUM_CHECKED, _BATCH = 24_000, 2_000, 128
_PLACE_WEIGHT = 10.0


class Frames(NamedTuple):
    """Frames and what is in them; things are named by their colour, of which a frame has each once at most.

    Attributes:
        pixels: uint8[F, 3, side, side].
        there: bool[F, 6], by colour.
        shapes: int64[F, 6].
        sizes: int64[F, 6].
        places: float32[F, 6, 2], x and y over width and height.
        grounds: int64[F, 2], background and layout.
    """

    pixels: torch.Tensor
    there: torch.Tensor
    shapes: torch.Tensor
    sizes: torch.Tensor
    places: torch.Tensor
    grounds: torch.Tensor

    def take(self, rows: torch.Tensor | slice) -> Frames:
        """Some of them."""
        return Frames(*(part[rows] for part in self))


@dataclass(frozen=True)
class Probe:
    """What a linear layer on the tower's features tells of unseen frames. Of places: mean distance."""

    name: str
    score: float
    chance: float


def single_frames(num_frames: int, *, seed: int, side_px: int) -> Frames:
    """Draw frames with nothing, one, two or three things in them.

    Args:
        num_frames: F.
        seed: Of the frames.
        side_px: They are squeezed to squares of this side, as `resize-naive` does.
    """
    num_colours = len(COLOURS)
    pixels = np.empty((num_frames, 3, side_px, side_px), np.uint8)
    names = np.zeros((3, num_frames, num_colours), np.int64)
    places = np.zeros((num_frames, num_colours, 2), np.float32)
    grounds = np.empty((num_frames, 2), np.int64)
    for index in range(num_frames):
        film, scene = _single(seed, index)
        pixels[index] = squeeze_planes(draw_frame(film, scene, 0), side_px)
        grounds[index] = _number(BACKGROUNDS, scene.place.background), _number(LAYOUTS, scene.place.layout)
        for event in scene.events:
            colour = _number(COLOURS, event.thing.colour)
            numbers = (1, _number(SHAPES, event.thing.shape), _number(SIZES, event.thing.size))
            names[:, index, colour] = numbers
            places[index, colour] = event.centre(0)
    there, shapes, sizes = torch.from_numpy(names)
    return Frames(
        torch.from_numpy(pixels),
        there.bool(),
        shapes,
        sizes,
        torch.from_numpy(places),
        torch.from_numpy(grounds),
    )


def _number(names: object, name: str) -> int:
    return list(names).index(name)  # type: ignore[call-overload]


def _single(seed: int, index: int) -> tuple[Film, Scene]:
    draws = Draws(seed, "single frames", index)
    things = draw_things(draws, draws.weighted((0, 1, 2, 3), (0.05, 0.5, 0.35, 0.1)))
    events: list[Event] = []
    for thing in things:
        event = stage(draws, thing, Motion("rest"), (0, 1), lane=0)
        place = {"lane_ratio": draws.between(0.05, 0.95), "middle_ratio": draws.between(0.05, 0.95)}
        events.append(Event(**{**event.__dict__, **place}))
    scene = Scene(draw_place(draws), draws.one(("left", "right")), 1, tuple(events))
    return Film("", draw_side(draws), draw_side(draws), (scene,)), scene


class _Heads(nn.Module):
    """Linear probes: fp32[F, P, D] -> logits of colours, shapes, sizes, grounds; places."""

    def __init__(self, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.widths = (6, 6 * len(SHAPES), 6 * len(SIZES), len(BACKGROUNDS), len(LAYOUTS), 6 * 2)
        self.all = nn.Linear(num_tokens * dim, sum(self.widths))

    def forward(self, features_FPD: torch.Tensor) -> tuple[torch.Tensor, ...]:  # noqa: N803  shape suffix
        there, shape, size, background, layout, place = self.all(features_FPD.flatten(1)).split(
            self.widths, dim=1
        )
        return (
            there,
            shape.unflatten(1, (6, -1)),
            size.unflatten(1, (6, -1)),
            background,
            layout,
            place.unflatten(1, (6, -1)),
        )


def train_tower(
    directory: Path, *, seed: int, num_steps: int, console: Console, num_frames: int = _NUM_FRAMES
) -> list[Probe]:
    """Train it and write `tower.safetensors` and `probes.json`, unless they are there.

    Args:
        directory: Created if needed.
        seed: Of weights, frames and batches.
        num_steps: Optimizer steps of 128 frames.
        console: For a progress bar.
        num_frames: To train on.

    Returns:
        What probes tell of frames that were not trained on.
    """
    report = directory / "probes.json"
    if report.is_file():
        return [Probe(**values) for values in json.loads(report.read_text(encoding="utf-8"))]
    tower = build_tower(ModelSettings(seed=seed))
    side_px = tower.spec.image_px
    frames = single_frames(num_frames + _NUM_CHECKED, seed=seed, side_px=side_px)
    heads = _fit(tower, frames.take(slice(0, num_frames)), seed=seed, num_steps=num_steps, console=console)
    probes = _probe(tower, heads, frames.take(slice(num_frames, None)))
    directory.mkdir(parents=True, exist_ok=True)
    (vit,) = tower.vits
    weights = {name: value.contiguous() for name, value in vit.state_dict().items()}
    save_file(weights, directory / "tower.safetensors")
    report.write_text(json.dumps([asdict(probe) for probe in probes], indent=2) + "\n", encoding="utf-8")
    return probes


def _fit(tower: VisionTower, frames: Frames, *, seed: int, num_steps: int, console: Console) -> _Heads:
    torch.manual_seed(seed)
    heads = _Heads(tower.spec.patches_per_frame, tower.spec.members[0].dim)
    tower.requires_grad_(True).train()
    optimizer = torch.optim.AdamW([*tower.parameters(), *heads.parameters()], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, num_steps)
    for _ in track(range(num_steps), description="tower on single frames", console=console):
        batch = frames.take(torch.randint(0, len(frames.pixels), (_BATCH,)))
        loss = _loss(heads(tower(batch.pixels)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tower.eval().requires_grad_(False)
    return heads


def _loss(told: tuple[torch.Tensor, ...], frames: Frames) -> torch.Tensor:
    there, shape, size, background, layout, place = told
    loss = 6 * F.binary_cross_entropy_with_logits(there, frames.there.float())
    loss = loss + F.cross_entropy(shape[frames.there], frames.shapes[frames.there])
    loss = loss + F.cross_entropy(size[frames.there], frames.sizes[frames.there])
    loss = loss + _PLACE_WEIGHT * F.mse_loss(place[frames.there], frames.places[frames.there])
    grounds = F.cross_entropy(background, frames.grounds[:, 0]) + F.cross_entropy(
        layout, frames.grounds[:, 1]
    )
    return loss + 0.5 * grounds


@torch.no_grad()
def _probe(tower: VisionTower, heads: _Heads, frames: Frames) -> list[Probe]:
    there, shape, size, background, layout, place = heads(tower(frames.pixels))
    shown = frames.there

    def right(logits: torch.Tensor, truth: torch.Tensor) -> float:
        return float((logits.argmax(-1) == truth).float().mean())

    guess = frames.places[shown].mean(0)
    exact = ((there > 0) == shown).all(1).float().mean()
    none = (~shown).all(1).float().mean()
    distance = (place[shown] - frames.places[shown]).norm(dim=-1).mean()
    return [
        Probe("all colours of a frame", float(exact), float(none)),
        Probe("shape of a thing", right(shape[shown], frames.shapes[shown]), 1 / len(SHAPES)),
        Probe("size of a thing", right(size[shown], frames.sizes[shown]), 1 / len(SIZES)),
        Probe("background", right(background, frames.grounds[:, 0]), 1 / len(BACKGROUNDS)),
        Probe("layout", right(layout, frames.grounds[:, 1]), 1 / len(LAYOUTS)),
        Probe(
            "distance to a thing's place",
            float(distance),
            float((frames.places[shown] - guess).norm(dim=-1).mean()),
        ),
    ]
