"""Frames of any size become the tower's squares, the same way in training and in generation.

    resize-naive   both sides to the square
    resize-crop    TIMM's: the short side to a size at least the square's, then the square in the middle
    letterbox      bars of the mean colour to a square, then as `resize-crop`

Runs in loader workers; the result stays uint8, normalisation is the tower's and on its device.

Source:
    Prismatic's `base_vision.py` and TIMM's evaluation transforms; equal to theirs byte for byte. Theirs, too,
    is the letterbox that an odd difference of the sides leaves one pixel off the square.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError

from weave_data.errors import ConfigError, VerificationError
from weave_train.config import ModelSettings
from weave_train.towers import MemberSpec, TowerSpec, tower_spec

__all__ = ["Frames", "blank_pixels", "to_images", "to_pixels"]

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
    """Transform frames to the tower's squares.

    Args:
        frames: T of them, of any sizes.
        settings: `vision_backbone_id` and `image_resize_strategy` are used.

    Returns:
        uint8[T, C, image_px, image_px], RGB for each member of the tower (C = 3, or 6 where it has two);
        T = 0 gives an empty tensor of that shape.

    Raises:
        ConfigError: See `to_images`.
        VerificationError: A JPEG can't be decoded; says which.
    """
    spec = tower_spec(settings.vision_backbone_id)
    wanted = [_steps(member, spec, settings.image_resize_strategy) for member in spec.members]
    squares = np.empty((len(frames), spec.image_px, spec.image_px, spec.channels), dtype=np.uint8)
    for index, image in enumerate(to_images(frames)):
        made = {steps: _square(image, steps) for steps in set(wanted)}  # members often want the same
        for position, steps in enumerate(wanted):
            squares[index, :, :, 3 * position : 3 * position + 3] = made[steps]
    return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()


def blank_pixels(num_frames: int, settings: ModelSettings) -> torch.Tensor:
    """Black frames of the shape that `to_pixels` gives."""
    spec = tower_spec(settings.vision_backbone_id)
    return torch.zeros((num_frames, spec.channels, spec.image_px, spec.image_px), dtype=torch.uint8)


@dataclass(frozen=True)
class _Steps:
    """What is done to an image, in this order.

    Attributes:
        fill: Colour of the bars that make it a square; None pads nothing.
        resize_px: Side, or short side, it is resized to.
        keeps_aspect: Short side; else both sides.
        crop_px: Side of the square cut from its middle.
        filter: Of the resizing; PIL's widen their kernel where they shrink.
    """

    fill: tuple[int, ...] | None
    resize_px: int
    keeps_aspect: bool
    crop_px: int
    filter: Image.Resampling


def _steps(member: MemberSpec, spec: TowerSpec, strategy: str) -> _Steps:
    is_naive = strategy == "resize-naive"
    return _Steps(
        fill=tuple(int(value * 255) for value in member.mean) if strategy == "letterbox" else None,
        resize_px=spec.image_px if is_naive else member.resize_px(spec.image_px),
        keeps_aspect=not is_naive and member.crop_mode == "center",
        crop_px=spec.image_px,
        filter=Image.Resampling[member.interpolation.upper()],
    )


def _square(image: Image.Image, steps: _Steps) -> npt.NDArray[np.uint8]:
    if steps.fill is not None:
        image = _padded(image, steps.fill)
    width = height = steps.resize_px
    if steps.keeps_aspect:
        short = min(image.size)
        width, height = (int(steps.resize_px * side / short) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), steps.filter)
    # round() goes to the even number, as torchvision's centre crop does
    left, top = (round((side - steps.crop_px) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + steps.crop_px, top + steps.crop_px)))


def _padded(image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    left, top = ((side - length) // 2 for length in image.size)
    canvas = Image.new("RGB", (image.width + 2 * left, image.height + 2 * top), fill)
    canvas.paste(image, (left, top))
    return canvas
