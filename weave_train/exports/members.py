"""A tower's ViTs, each with how it wants its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from weave_train.models.model import VideoLanguageModel

__all__ = ["Member", "members_of", "normalise"]


@dataclass(frozen=True)
class Member:
    """One ViT.

    Attributes:
        vit: timm's.
        mean: Taken off each channel of an image in [0, 1].
        std: What is left is divided by.
        resize_px: Side, or short side, that a frame is resized to.
        keeps_aspect: Short side; else both.
        crop_px: Side of the square cut from the middle.
        resample: PIL's number of the filter.
        fill: Colour of the bars that make a frame square first; None for none.
    """

    vit: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_px: int
    keeps_aspect: bool
    crop_px: int
    resample: int
    fill: tuple[int, ...] | None


def members_of(vlm: VideoLanguageModel) -> list[Member]:
    """The tower's ViTs, in the order of their channels and features."""
    spec, strategy = vlm.tower.spec, vlm.settings.image_resize_strategy
    is_naive = strategy == "resize-naive"
    return [
        Member(
            vit=vit,
            mean=member.mean,
            std=member.std,
            resize_px=spec.image_px if is_naive else member.resize_px(spec.image_px),
            keeps_aspect=not is_naive and member.crop_mode == "center",
            crop_px=spec.image_px,
            resample=int(Image.Resampling[member.interpolation.upper()]),
            fill=tuple(int(value * 255) for value in member.mean) if strategy == "letterbox" else None,
        )
        for vit, member in zip(vlm.tower.vits, spec.members, strict=True)
    ]


def normalise(pixels_FCHW: torch.Tensor, vlm: VideoLanguageModel) -> torch.Tensor:  # noqa: N803  shape suffix
    """What a tower does first, done outside of it: uint8[F, C, px, px] -> float of the same shape."""
    mean, std = (
        torch.tensor([value for member in members_of(vlm) for value in getattr(member, name)]).view(-1, 1, 1)
        for name in ("mean", "std")
    )
    return (pixels_FCHW.float() / 255.0 - mean) / std
