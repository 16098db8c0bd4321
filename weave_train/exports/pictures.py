"""The run's image transform as the configuration of transformers' LlavaImageProcessor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from weave_train.exports.members import members_of, normalise
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.pixels import to_images, to_pixels

__all__ = ["largest_pixel_difference", "preprocessor_settings"]

_SIZES = ((90, 70), (64, 64), (71, 120), (120, 71))
"""Of the frames that are compared: wide, square, and with odd differences of the sides."""


def preprocessor_settings(vlm: VideoLanguageModel) -> dict[str, Any]:
    """Arguments of LlavaImageProcessor: bars, resize, crop, scale, normalise.

    With `backend="pil"` a naive resize gives our pixels exactly, with torchvision's kernels within rounding.
    Bars and crops of an odd number of pixels are put one pixel elsewhere than Prismatic puts them.
    """
    (member,) = members_of(vlm)
    side = member.resize_px
    crop = {"height": member.crop_px, "width": member.crop_px}
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if member.keeps_aspect else {"height": side, "width": side},
        "resample": member.resample,
        "do_center_crop": side != member.crop_px or member.keeps_aspect,
        "crop_size": crop,  # programs that count tokens read the side here
        "do_pad": member.fill is not None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(member.mean),
        "image_std": list(member.std),
    }


def largest_pixel_difference(vlm: VideoLanguageModel, directory: Path, **options: Any) -> float:
    """Largest difference between an export's pixels and the run's, in steps of 1/255, before normalising.

    Args:
        vlm: Ours.
        directory: Of the export.
        **options: For transformers, e.g. `backend` or `trust_remote_code`.
    """
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(directory, local_files_only=True, **options)
    std = torch.tensor([value for member in members_of(vlm) for value in member.std]).view(-1, 1, 1)
    largest = 0.0
    for index, (width, height) in enumerate(_SIZES):
        noise = np.random.default_rng(index).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        theirs = processor(to_images(noise), return_tensors="pt").pixel_values
        ours = normalise(to_pixels(noise, vlm.settings), vlm)
        largest = max(largest, float(((theirs - ours) * std * 255).abs().max()))
    return largest
