"""Frames and text become pixels and ids, as the model was trained to see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BaseImageProcessor, BatchFeature, ProcessorMixin

__all__ = ["WeaveImageProcessor", "WeaveProcessor"]


class WeaveImageProcessor(BaseImageProcessor):
    """Each frame as every tower wants it, one behind the other in the channels.

    Args:
        members: One dict a tower, in order: `fill` (colour of bars that make a square, or None),
            `resize_px`, `keeps_aspect` (the short side, else both), `crop_px`, `resample` (PIL's number),
            `mean`, `std`.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012  as its base declares it

    def __init__(self, members: list[dict[str, Any]] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = members or []

    def preprocess(self, images: Any, **_: Any) -> BatchFeature:
        """PIL images or uint8 arrays [H, W, 3], one or many -> float32[F, 3 * towers, px, px]."""
        if isinstance(images, Image.Image | np.ndarray | torch.Tensor):
            images = [images]
        frames = [frame for item in images for frame in (item if isinstance(item, list | tuple) else [item])]
        stacked = torch.stack([self._frame(frame) for frame in frames])
        return BatchFeature({"pixel_values": stacked})

    def _frame(self, frame: Any) -> torch.Tensor:
        image = frame if isinstance(frame, Image.Image) else Image.fromarray(np.asarray(frame))
        squares = []
        for member in self.members:
            pixels = torch.from_numpy(np.array(_square(image.convert("RGB"), member))).permute(2, 0, 1)
            mean, std = (torch.tensor(member[key]).view(3, 1, 1) for key in ("mean", "std"))
            squares.append((pixels.float() / 255.0 - mean) / std)
        return torch.cat(squares)


def _square(image: Image.Image, member: dict[str, Any]) -> Image.Image:
    if member["fill"] is not None:
        side = max(image.size)
        left, top = ((side - length) // 2 for length in image.size)
        canvas = Image.new("RGB", (image.width + 2 * left, image.height + 2 * top), tuple(member["fill"]))
        canvas.paste(image, (left, top))
        image = canvas
    width = height = member["resize_px"]
    if member["keeps_aspect"]:
        short = min(image.size)
        width, height = (int(member["resize_px"] * side / short) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling(member["resample"]))
    crop_px = member["crop_px"]
    left, top = (round((side - crop_px) / 2) for side in image.size)
    return image.crop((left, top, left + crop_px, top + crop_px))


class WeaveProcessor(ProcessorMixin):
    """Image processor and tokenizer; `<image>` in a text becomes the visual tokens of one frame."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        tokens_per_frame: int = 0,
        image_token: str = "<image>",  # noqa: S107  a word, no secret
        **kwargs: Any,
    ) -> None:
        self.tokens_per_frame = tokens_per_frame
        self.image_token = image_token
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """Frames of all texts in order, and the texts."""
        texts = [text] if isinstance(text, str) else list(text)
        whole = [one.replace(self.image_token, self.image_token * self.tokens_per_frame) for one in texts]
        known = {
            key: kwargs[key] for key in ("add_special_tokens", "padding", "return_tensors") if key in kwargs
        }
        values = dict(self.tokenizer(whole, **known))
        if images is not None and len(images):
            values |= self.image_processor.preprocess(images)
        return BatchFeature(values)
