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
from weave_train.config import ModelSettings
from weave_train.towers import tower_spec

__all__ = ["Frames", "to_images", "to_pixels"]

Frames = Sequence[bytes] | Sequence[Image.Image] | npt.NDArray[np.uint8]
"""JPEG bytes, PIL images, or uint8[T, H, W, 3]."""


def _decode_jpeg(data: bytes, *, name: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except UnidentifiedImageError as error:
        reason, cause = "no image format is recognised", error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason, cause = str(error), error  # type: ignore[assignment]
    raise VerificationError(
        f"{name} ({len(data)} bytes) can't be decoded: {reason}; run weave-data verify on the data set"
    ) from cause


def to_images(frames: Frames) -> list[Image.Image]:
    """Frames in any accepted form as RGB images; sizes may differ between the clips of a sample.

    Raises:
        ConfigError: An array is not uint8[T, H, W, 3], or an item is of another type.
        VerificationError: A JPEG can't be decoded; says which.
    """
    if isinstance(frames, np.ndarray):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ConfigError(f"frames: expected uint8[T, H, W, 3], got {frames.dtype}{list(frames.shape)}")
        return [Image.fromarray(frame) for frame in frames]
    images: list[Image.Image] = []
    for index, frame in enumerate(frames):
        if isinstance(frame, bytes):
            images.append(_decode_jpeg(frame, name=f"frame {index} of {len(frames)}"))
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
        VerificationError: A JPEG can't be decoded; says which.
    """
    side_px = tower_spec(settings.vision_backbone_id).image_px
    squares = np.empty((len(frames), side_px, side_px, 3), dtype=np.uint8)
    for index, image in enumerate(to_images(frames)):
        # resize-naive: both sides to the square; PIL's bicubic widens its kernel when it shrinks
        squares[index] = np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()
