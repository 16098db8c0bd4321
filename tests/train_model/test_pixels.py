"""Transforms are those of Prismatic on top of timm's, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.rows.pixels import blank_pixels, to_pixels
from weave_train.towers import MemberSpec, tower_spec

STRATEGIES = ("resize-naive", "resize-crop", "letterbox")
SIZES = ((500, 321), (321, 500), (300, 300), (224, 224), (97, 60), (400, 225), (225, 402))
"""Width and height: landscape, portrait, square, nothing to do, small, odd differences of the sides."""


def picture(size: tuple[int, int]) -> Image.Image:
    """Smooth colours with noise, so that every filter and shift shows."""
    width, height = size
    rng = np.random.default_rng(width * height)
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    return Image.fromarray((ramp[..., None] + rng.integers(0, 16, (height, width, 3))).astype(np.uint8))


def reference(member: MemberSpec, image_px: int, strategy: str) -> Any:
    """Prismatic's transform, put together from timm's and torchvision's."""
    install()
    import timm
    from torchvision.transforms import Compose, Resize
    from torchvision.transforms import functional as tv

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(member.timm_name).to_dict())
    config["input_size"] = (3, image_px, image_px)
    resize, *rest = timm.data.create_transform(**config, is_training=False, normalize=False).transforms
    if "siglip" in member.timm_name or "in1k" in member.timm_name:
        resize = Resize(image_px, interpolation=resize.interpolation)
    if strategy == "resize-naive":
        resize = Resize((image_px, image_px), interpolation=resize.interpolation)
    if strategy != "letterbox":
        return Compose([resize, *rest])

    def pad(image: Image.Image) -> Image.Image:
        (width, height), side = image.size, max(image.size)
        left, top = int((side - width) / 2), int((side - height) / 2)
        fill = tuple(int(value * 255) for value in config["mean"])
        return tv.pad(image, (left, top, left, top), fill=fill, padding_mode="constant")

    return Compose([pad, resize, *rest])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "vision_id",
    [
        "clip-vit-b",
        "clip-vit-l-336px",
        "siglip-vit-b16-224px",
        "siglip-vit-so400m-384px",
        "dinov2-vit-l",
        "in1k-vit-l",
        "dinosiglip-vit-so-224px",
        "dinoclip-vit-l-336px",
    ],
)
def test_pixels_are_those_of_prismatic_timm_and_torchvision(vision_id: str, strategy: str) -> None:
    spec = tower_spec(vision_id)
    transforms = [reference(member, spec.image_px, strategy) for member in spec.members]
    images = [picture(size) for size in SIZES]
    settings = ModelSettings(vision_backbone_id=vision_id, image_resize_strategy=strategy)
    pixels = to_pixels(images, settings)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (len(SIZES), 3 * len(spec.members), spec.image_px, spec.image_px)
    assert pixels.is_contiguous()
    for image, found in zip(images, pixels, strict=True):
        expected = torch.cat([transform(image) for transform in transforms])
        assert torch.equal(found, expected), image.size


def test_members_with_other_means_have_other_bars() -> None:
    wide = [Image.new("RGB", (200, 100), (255, 0, 0))]
    settings = ModelSettings(vision_backbone_id="dinosiglip-vit-so-224px", image_resize_strategy="letterbox")
    dino, siglip = to_pixels(wide, settings)[0].split(3)
    assert dino[:, 0, 0].tolist() == [123, 116, 103]
    assert siglip[:, 0, 0].tolist() == [127, 127, 127]
    assert dino[:, 112, 112].tolist() == siglip[:, 112, 112].tolist() == [255, 0, 0]


def test_no_frames_and_blank_frames_have_the_channels_of_the_tower() -> None:
    for vision_id, channels in (("video-clip-vit-b", 3), ("dinoclip-vit-l-336px", 6)):
        settings = ModelSettings(vision_backbone_id=vision_id, image_resize_strategy="letterbox")
        side = tower_spec(vision_id).image_px
        assert to_pixels([], settings).shape == (0, channels, side, side)
        assert blank_pixels(2, settings).shape == (2, channels, side, side)
        assert not blank_pixels(2, settings).any()
