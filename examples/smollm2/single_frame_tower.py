"""A small vision tower trained on single frames: where the shape is, and which colours there are.

    World -> one frame of a scene, 32 px -> video-tiny-vit -> colour, background, place -> tower.safetensors

Each of a frame's tokens has to tell all of it; a place as two numbers, and as one of three columns and one of
three rows, which is a choice like that of a colour. Every frame stands alone, so nothing here knows that
shapes move or in which direction; its scenes take their numbers from a range that no clip has. The file is in
timm's layout, as `--model.vision_weights` reads it.
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
_PLACE_WEIGHT, _THIRD_WEIGHT = 10.0, 2.0
_PEAK_RATE = 1e-3  # 2e-3 diverges where every token has to tell the place


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
    places = random.uniform(0.0, 1.0, (num_frames, 2))
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
        colour, _, place, third = heads(tower(pixels))
    right = (colour.argmax(-1) == names[:, :1]).float().mean()
    off = (place - places[:, None]).abs().mean()
    in_third = (third.argmax(-1) == _thirds(places)[:, None]).float().mean()
    console.print(
        f"tower: of unseen frames' tokens {right:.2f} tell the colour, {in_third:.2f} column and row; "
        f"place off by {off:.3f} of the side"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tower.vit.state_dict().items()}, path)
    return path


def _thirds(places_F2: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
    """Numbers of column and row, 0 to 2: int64[F, 2]."""
    return (places_F2 * 3).long().clamp(0, 2)


class _Heads(nn.Module):
    """What each token tells: fp32[F, P, D] -> colour [F, P, 6], background [F, P, 3], place [F, P, 2] and
    third [F, P, 2, 3].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.colour, self.background = nn.Linear(dim, len(COLOURS)), nn.Linear(dim, len(BACKGROUNDS))
        self.place, self.third = nn.Linear(dim, 2), nn.Linear(dim, 6)

    def forward(self, features_FPD: torch.Tensor) -> tuple[torch.Tensor, ...]:  # noqa: N803  shape suffix
        third = self.third(features_FPD).unflatten(-1, (2, 3))
        return self.colour(features_FPD), self.background(features_FPD), self.place(features_FPD), third


def _fit(
    tower: VisionTower, frames: tuple[torch.Tensor, ...], *, seed: int, num_steps: int, console: Console
) -> _Heads:
    pixels, names, places = (part[:-_NUM_CHECKED] for part in frames)
    torch.manual_seed(seed)
    heads = _Heads(tower.spec.members[0].dim)
    tower.requires_grad_(True).train()
    weights = [*tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, num_steps)
    for _ in track(range(num_steps), description="tower on single frames", console=console):
        rows = torch.randint(0, len(pixels), (_BATCH,))
        loss = _loss(heads(tower(pixels[rows])), names[rows], places[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tower.eval()
    return heads


def _loss(told: tuple[torch.Tensor, ...], names: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """What the tokens told against the truth of their frames; mean over tokens."""
    colour, background, place, third = told
    num_tokens = place.shape[1]
    of_token = (part[:, None].expand(-1, num_tokens, -1) for part in (names, places, _thirds(places)))
    true_names, true_places, true_thirds = of_token
    loss = F.cross_entropy(colour.flatten(0, 1), true_names[..., 0].flatten())
    loss = loss + F.cross_entropy(background.flatten(0, 1), true_names[..., 1].flatten())
    loss = loss + _THIRD_WEIGHT * F.cross_entropy(third.flatten(0, 2), true_thirds.flatten())
    return loss + _PLACE_WEIGHT * F.mse_loss(place, true_places)
