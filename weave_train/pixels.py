"""Frames of any size become the tower's squares, the same way in training and in generation.

Runs in loader workers; the result stays uint8, normalisation is the tower's and on its device.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError

from weave_data.errors import ConfigError, VerificationError
from weave_train.model_settings import ModelSettings
from weave_train.vision import tower_spec

__all__ = ["Frames", "decode_jpegs", "to_images", "to_pixels"]

Frames = Sequence[bytes] | Sequence[Image.Image] | npt.NDArray[np.uint8]
"""JPEG bytes, PIL images, or uint8[T, H, W, 3]."""


def decode_jpegs(jpegs: Sequence[bytes]) -> list[Image.Image]:
    """Decode stored frames to RGB; sizes may differ between the clips of a sample.

    Raises:
        VerificationError: One of them is not an image that can be decoded.
    """
    images = []
    for index, data in enumerate(jpegs):
        try:
            images.append(Image.open(io.BytesIO(data)).convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise VerificationError(
                f"frame {index} of {len(jpegs)} ({len(data)} bytes) can't be decoded as an image: {error}; "
                "run weave-data verify on the dataset"
            ) from error
    return images


def to_images(frames: Frames) -> list[Image.Image]:
    """Frames in any accepted form as RGB images.

    Raises:
        ConfigError: An array is not uint8[T, H, W, 3], or an item is of another type.
        VerificationError: See `decode_jpegs`.
    """
    if isinstance(frames, np.ndarray):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ConfigError(f"frames: expected uint8[T, H, W, 3], got {frames.dtype}{list(frames.shape)}")
        return [Image.fromarray(frame) for frame in frames]
    images: list[Image.Image] = []
    for frame in frames:
        if isinstance(frame, bytes):
            images += decode_jpegs([frame])
        elif isinstance(frame, Image.Image):
            images.append(frame.convert("RGB"))
        else:
            raise ConfigError(f"frames: expected JPEG bytes or PIL images, got {type(frame).__name__}")
    return images


def to_pixels(frames: Frames, settings: ModelSettings) -> torch.Tensor:
    """Resize frames to the tower's square.

    Args:
        frames: T of them, of any sizes.
        settings: `vision_backbone_id` and `image_resize_strategy` are used.

    Returns:
        uint8[T, 3, image_px, image_px], RGB; T = 0 gives an empty tensor of that shape.

    Raises:
        ConfigError: See `to_images`.
        VerificationError: See `decode_jpegs`.
    """
    side_px = tower_spec(settings.vision_backbone_id).image_px
    squares = np.empty((len(frames), side_px, side_px, 3), dtype=np.uint8)
    for index, image in enumerate(to_images(frames)):
        # resize-naive: both sides to the square; PIL's bicubic widens its kernel when it shrinks
        squares[index] = np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()
