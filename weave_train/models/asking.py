"""Questions about frames become one batch, padded on the left, so that every row goes on at its end.

    rows  input_ids  PAD PAD <s> V V In : ...     V = VISUAL_TOKEN_ID
          mask       0   0   1   1 1 1  1
          position   0   0   0   1 2 3  4

Frames, prompt and splice go through the code that made the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from weave_data.errors import ConfigError, WeaveError
from weave_train.rows.pixels import Frames, to_pixels
from weave_train.rows.prompt import PromptBuilder
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = [
    "Asked",
    "FrameInput",
    "as_frames",
    "ask",
    "ask_one",
    "begin_alone",
    "check_pairs",
    "embed_asked",
    "join_asked",
    "stop_token_ids",
]

FrameInput = Frames | Image.Image | bytes | Sequence[npt.NDArray[np.uint8]] | None
"""PIL image, bytes of an image file, uint8[H, W, 3], a list of these, uint8[T, H, W, 3], or None."""


@dataclass(frozen=True)
class Asked:
    """A batch of prompts.

    `input_ids` int64[B, S] with the visual placeholders in place; `attention_mask` bool[B, S], False on
    padding; `pixels` uint8[F, C, px, px] of all rows, in row order; `lengths` of the B rows in tokens.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    pixels: torch.Tensor
    lengths: tuple[int, ...]

    @property
    def position_ids(self) -> torch.Tensor:
        """int64[B, S]: each row counts from its own first token."""
        return (self.attention_mask.cumsum(-1) - 1).clamp_min(0)


def stop_token_ids(vlm: VideoLanguageModel) -> frozenset[int]:
    """Tokens that end an answer."""
    return frozenset(vlm.prompts.stop_token_ids)


def begin_alone(vlm: VideoLanguageModel) -> bool:
    """Whether rows must be answered one by one; if so, forget the rows before.

    RoPE of kind `legacy-dynamic` depends on the longest row beside and before: its answer would, too.
    """
    model = vlm.core.language_model
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "dynamic":
        return False
    for module in model.modules():
        if hasattr(module, "original_inv_freq"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq.to(vlm.device)
    return True


def as_frames(image: FrameInput) -> Frames:
    """One image, many or none as a sequence of frames.

    Raises:
        ConfigError: Of another type.
    """
    if image is None:
        return []
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, bytes):
        return [image]
    if isinstance(image, np.ndarray):
        return image[None] if image.ndim == 3 else image
    if isinstance(image, (list, tuple)):
        return [_as_frame(frame) for frame in image]
    raise ConfigError(_wrong_type(image))


def _as_frame(frame: object) -> Any:
    if isinstance(frame, (bytes, Image.Image)):
        return frame
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[-1] == 3:
        return Image.fromarray(frame)
    raise ConfigError(_wrong_type(frame))


def _wrong_type(value: object) -> str:
    shape = f" {value.dtype}{list(value.shape)}" if isinstance(value, (np.ndarray, torch.Tensor)) else ""
    hint = "; read a video with frames_from_video" if isinstance(value, str) else ""
    return (
        f"frames: {type(value).__name__}{shape} is no image; give a PIL image, the bytes of an image file, "
        f"uint8[H, W, 3], a list of these, uint8[T, H, W, 3], or None for text alone{hint}"
    )


def ask(
    vlm: VideoLanguageModel, images: Sequence[FrameInput], prompts: Sequence[str | PromptBuilder]
) -> Asked:
    """Encode prompts, one for each entry of `images`.

    Args:
        vlm: Whose tokenizer and settings are used.
        images: Frames of each row; T differs freely, None for text alone.
        prompts: A builder, or what its `get_prompt` gave.

    Raises:
        ConfigError: Another number of prompts than of entries, none at all, something of a wrong type, or
            a prompt that leaves no room for an answer; names the row where there are several.
        VerificationError: A frame can't be decoded.
    """
    check_pairs(images, prompts)
    rows = []
    for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        try:
            rows.append(ask_one(vlm, image, prompt))
        except WeaveError as error:
            if len(prompts) == 1:
                raise
            raise type(error)(f"row {index} of {len(prompts)}: {error}") from error
    return join_asked(rows, pad_id=int(vlm.tokenizer.pad_token_id))


def check_pairs(images: Sequence[FrameInput], prompts: Sequence[str | PromptBuilder]) -> None:
    """One prompt for each entry of frames, and at least one.

    Raises:
        ConfigError: There is another number.
    """
    if isinstance(prompts, (str, PromptBuilder)) or len(images) != len(prompts) or not prompts:
        given = 1 if isinstance(prompts, (str, PromptBuilder)) else len(prompts)
        raise ConfigError(f"{len(images)} entries of frames and {given} prompts; give one prompt for each")


def join_asked(rows: Sequence[Asked], *, pad_id: int) -> Asked:
    """Batches of one row as one batch, padded on the left to the longest."""
    longest = max(row.lengths[0] for row in rows)
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for index, row in enumerate(rows):
        start = longest - row.lengths[0]
        input_ids[index, start:] = row.input_ids[0]
        attention_mask[index, start:] = True
    pixels = torch.cat([row.pixels for row in rows])
    return Asked(input_ids, attention_mask, pixels, tuple(row.lengths[0] for row in rows))


def ask_one(vlm: VideoLanguageModel, image: FrameInput, prompt: str | PromptBuilder) -> Asked:
    """`ask` of one row.

    Raises:
        WeaveError: As `ask`.
    """
    if not isinstance(prompt, (str, PromptBuilder)):
        raise ConfigError(f"prompt: {type(prompt).__name__} is neither text nor a prompt builder")
    pixels = to_pixels(as_frames(image), vlm.settings)
    num_visual = num_visual_tokens(len(pixels), vlm.settings)
    input_ids = vlm.prompts.encode_prompt(prompt, [num_visual] if num_visual else [])
    limit = vlm.settings.llm_max_length
    if len(input_ids) >= limit:
        num_text = len(input_ids) - num_visual
        raise ConfigError(
            f"{num_visual} visual tokens of {len(pixels)} frames and {num_text} of text leave no room "
            f"in llm_max_length {limit} for an answer; give fewer frames or a shorter prompt"
        )
    whole = torch.ones((1, len(input_ids)), dtype=torch.bool)
    return Asked(input_ids.unsqueeze(0), whole, pixels, (len(input_ids),))


@torch.no_grad()
def embed_asked(vlm: VideoLanguageModel, asked: Asked) -> torch.Tensor:
    """Embed a batch with one call of the tower: [B, S, E]."""
    # a blank frame where the batch has none: no placeholder takes it
    pixels = asked.pixels if len(asked.pixels) else asked.pixels.new_zeros((1, *asked.pixels.shape[1:]))
    return vlm.core.embed(vlm.encode(pixels), asked.input_ids.to(vlm.device))
