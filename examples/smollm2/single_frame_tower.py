"""A small vision tower trained on single frames: where the shape is, and which colours there are.

    World -> one frame of a scene, 32 px -> video-tiny-vit -> colour, background, place -> tower.safetensors

Every frame stands alone, so nothing here knows that shapes move or in which direction; its scenes take their
numbers from a range that no clip has. The file is in timm's layout, as `--model.vision_weights` reads it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from encoding import squeeze_planes
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import nn
from world import BACKGROUNDS, COLOURS, World, draw_frame

from weave_train.config import ModelSettings
from weave_train.models.vision import VisionTower, build_tower

__all__ = ["single_frames", "train_tower"]

_FIRST_SCENE = 9_000_000  # clips are numbered from 1,000,000 and from 5,000,000
_NUM_FRAMES, _NUM_CHECKED, _BATCH = 6000, 500, 64
_PLACE_WEIGHT = 10.0


def single_frames(
    num_frames: int, *, seed: int, side_px: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw scenes, each with its shape in one uniform place.

    Args:
        num_frames: F.
        seed: Of the scenes and places.
        side_px: Frames are squeezed to squares of this side, as `resize-naive` does.

    Returns:
        Pixels uint8[F, 3, side, side]; numbers of colour and background int64[F, 2]; place float32[F, 2],
        x and y over width and height.
    """
    world, random = World(), np.random.default_rng(seed)
    pixels = np.empty((num_frames, 3, side_px, side_px), np.uint8)
    names = np.empty((num_frames, 2), np.int64)
    places = random.uniform(0.05, 0.95, (num_frames, 2))
    for index in range(num_frames):
        scene = world.scene(seed=seed, clip_number=_FIRST_SCENE + index)
        planes = draw_frame(scene, world=world, centre=places[index] * (scene.width_px, scene.height_px))
        pixels[index] = squeeze_planes(planes, side_px)
        names[index] = list(COLOURS).index(scene.colour), list(BACKGROUNDS).index(scene.background)
    return torch.from_numpy(pixels), torch.from_numpy(names), torch.from_numpy(places).float()


def train_tower(path: Path, *, seed: int, num_steps: int, console: Console) -> Path:
    """Train it and write it, unless it is there.

    Args:
        path: `.safetensors`, in timm's layout.
        seed: Of weights, scenes and batches.
        num_steps: Optimizer steps of 64 frames.
        console: Says what it sees in frames it was not trained on.

    Returns:
        `path`.
    """
    if path.is_file():
        return path
    tower = build_tower(ModelSettings(seed=seed))
    frames = single_frames(_NUM_FRAMES, seed=seed, side_px=tower.spec.image_px)
    heads = _fit(tower, frames, seed=seed, num_steps=num_steps, console=console)
    with torch.no_grad():
        pixels, names, places = (part[-_NUM_CHECKED:] for part in frames)
        colour, _, place = heads(tower(pixels))
    right = (colour.argmax(-1) == names[:, 0]).float().mean()
    off = (place - places).abs().mean()
    console.print(f"tower: colour right in {right:.2f} of unseen frames, place off by {off:.3f} of the side")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tower.vit.state_dict().items()}, path)
    return path


class _Heads(nn.Module):
    """What a frame's tokens tell: fp32[F, P, D] -> colour [F, 6], background [F, 3], place [F, 2]."""

    def __init__(self, num_tokens: int, dim: int) -> None:
        super().__init__()
        self.colour, self.background = nn.Linear(dim, len(COLOURS)), nn.Linear(dim, len(BACKGROUNDS))
        self.place = nn.Linear(num_tokens * dim, 2)

    def forward(self, features_FPD: torch.Tensor) -> tuple[torch.Tensor, ...]:  # noqa: N803  shape suffix
        mean = features_FPD.mean(1)
        return self.colour(mean), self.background(mean), self.place(features_FPD.flatten(1))


def _fit(
    tower: VisionTower, frames: tuple[torch.Tensor, ...], *, seed: int, num_steps: int, console: Console
) -> _Heads:
    pixels, names, places = (part[:-_NUM_CHECKED] for part in frames)
    torch.manual_seed(seed)
    heads = _Heads(tower.spec.patches_per_frame, tower.spec.members[0].dim)
    tower.requires_grad_(True).train()
    weights = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, num_steps)
    for _ in track(range(num_steps), description="tower on single frames", console=console):
        rows = torch.randint(0, len(pixels), (_BATCH,))
        colour, background, place = heads(tower(pixels[rows]))
        loss = F.cross_entropy(colour, names[rows, 0]) + F.cross_entropy(background, names[rows, 1])
        loss = loss + _PLACE_WEIGHT * F.mse_loss(place, places[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tower.eval()
    return heads
