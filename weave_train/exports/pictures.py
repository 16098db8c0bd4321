"""The run's image transform as the configuration of transformers' LlavaImageProcessor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from weave_train.models.model import VideoLanguageModel
from weave_train.rows.pixels import to_images, to_pixels

__all__ = ["largest_pixel_difference", "normalise", "preprocessor_settings"]


def preprocessor_settings(vlm: VideoLanguageModel) -> dict[str, Any]:
    """Arguments of LlavaImageProcessor: resize to the tower's square, scale, normalise.

    With `backend="pil"` it gives our pixels exactly, with torchvision's kernels within rounding.
    """
    spec = vlm.tower.spec
    square = {"height": spec.image_px, "width": spec.image_px}
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square,
        "resample": 3,  # bicubic
        "do_center_crop": False,
        "crop_size": square,  # programs that count tokens read the side here
        "do_pad": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.members[0].mean),
        "image_std": list(spec.members[0].std),
    }


def normalise(pixels_F3HW: torch.Tensor, vlm: VideoLanguageModel) -> torch.Tensor:  # noqa: N803  shape suffix
    """What a tower does first, done outside of it: uint8[F, 3, px, px] -> float of the same shape."""
    (member,) = vlm.tower.spec.members
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (member.mean, member.std))
    return (pixels_F3HW.float() / 255.0 - mean) / std


def largest_pixel_difference(vlm: VideoLanguageModel, directory: Path) -> float:
    """Largest difference between an export's pixels and the run's, in steps of 1/255, before normalising."""
    from transformers import AutoImageProcessor

    noise = np.random.default_rng(0).integers(0, 256, (2, 90, 70, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(directory, local_files_only=True)
    theirs = processor(list(to_images(noise)), return_tensors="pt").pixel_values
    steps = (theirs - normalise(to_pixels(noise, vlm.settings), vlm)).abs()
    std = torch.tensor(vlm.tower.spec.members[0].std).view(3, 1, 1)
    return float((steps * std * 255).max())
