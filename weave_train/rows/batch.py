"""Woven rows become encoded rows, encoded rows become batches.

    row   input_ids  <s> V V V V In : ...  A ... </s>     V = VISUAL_TOKEN_ID, T * P of them
          labels     -100 ...              A ... </s>
          pixels     uint8[T, C, px, px]                     C = 3 for each member of the tower
    batch rows padded on the right; the frames of all rows in one tensor, in row order

Rows of different T, images (T = 1) and text-only rows (T = 0) mix freely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import Turn
from weave_train.config import ModelSettings
from weave_train.rows.pixels import blank_pixels, to_pixels
from weave_train.rows.placement import clip_frames, shuffled_frames
from weave_train.rows.prompt import IGNORE_INDEX, Encoded, fit_to_length, prompt_format
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Batch", "EncodedRow", "collate", "dummy_batch", "encode_turns", "make_row"]


@dataclass(frozen=True)
class EncodedRow:
    """One sample, ready to be batched.

    `input_ids` and `labels` int64[s] with the visual placeholders in place; `pixels`
    uint8[T, C, px, px].
    """

    sample_id: str
    input_ids: torch.Tensor
    labels: torch.Tensor
    pixels: torch.Tensor

    @property
    def num_supervised(self) -> int:
        """Tokens of this row that enter the loss."""
        return int((self.labels != IGNORE_INDEX).sum())


@dataclass(frozen=True)
class Batch:
    """One micro-step of one rank.

    `input_ids`, `labels` int64[B, S]; `attention_mask` bool[B, S], False on padding; `pixels`
    uint8[F, C, px, px]; `frames_per_row` int64[B]. F is the sum of `frames_per_row`, or 1 when that
    is 0: a blank frame that no placeholder takes, so that every rank runs tower and projector.
    `num_supervised` is the number of tokens that enter the loss.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor
    pixels: torch.Tensor
    frames_per_row: torch.Tensor
    sample_ids: tuple[str, ...]
    num_supervised: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        names = ("input_ids", "labels", "attention_mask", "pixels", "frames_per_row")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def make_row(
    row: Mapping[str, Any],
    *,
    tokenizer: PreTrainedTokenizerBase,
    settings: ModelSettings,
    shuffle_frames: bool = False,
) -> EncodedRow:
    """Encode one woven row.

    Args:
        row: Of a shard: `sample_id`, `frames`, `frame_clip`, `conversations` are read.
        tokenizer: The run's.
        settings: The run's.
        shuffle_frames: In one order drawn from `settings.seed` and the sample id.

    Raises:
        ConfigError: The sequence does not fit, or nothing in it is supervised; names the sample.
        VerificationError: A frame can't be decoded; names the sample.
    """
    name = f"sample {row['sample_id']}"
    try:
        frames = row["frames"]
        if shuffle_frames:
            frames = shuffled_frames(frames, seed=settings.seed, sample_id=row["sample_id"])
        pixels = to_pixels(frames, settings)
        encoded = encode_turns(
            row["conversations"],
            clip_frames=clip_frames(len(frames), row.get("frame_clip")),
            tokenizer=tokenizer,
            settings=settings,
        )
    except VerificationError as error:
        raise VerificationError(f"{name}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    fitted = fit_to_length(encoded, max_length=settings.llm_max_length, name=name)
    return EncodedRow(row["sample_id"], fitted.input_ids, fitted.labels, pixels)


def encode_turns(
    turns: Sequence[Turn | Mapping[str, str]],
    *,
    clip_frames: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    settings: ModelSettings,
) -> Encoded:
    """Ids and labels of a row, visual placeholders in place, before `fit_to_length`; needs no pixels.

    Args:
        turns: Of the conversation.
        clip_frames: Frames of each clip, T of the row in all; see `placement.clip_frames`.
        tokenizer: The run's.
        settings: The run's.

    Raises:
        ConfigError: Turns don't alternate, or nothing is supervised.
    """
    clip_tokens = [num_visual_tokens(number, settings) for number in clip_frames]
    return prompt_format(settings, tokenizer).encode_conversation(turns, clip_tokens)


def collate(rows: Sequence[EncodedRow], *, pad_id: int) -> Batch:
    """Batch rows, padded on the right to the longest.

    Args:
        rows: At least one.
        pad_id: Of the tokenizer.
    """
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORE_INDEX, dtype=torch.int64)
    attention_mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        input_ids[index, :length] = row.input_ids
        labels[index, :length] = row.labels
        attention_mask[index, :length] = True
    pixels = torch.cat([row.pixels for row in rows])
    return Batch(
        input_ids=input_ids,
        labels=labels,
        attention_mask=attention_mask,
        pixels=pixels if len(pixels) else pixels.new_zeros((1, *pixels.shape[1:])),
        frames_per_row=torch.tensor([len(row.pixels) for row in rows], dtype=torch.int64),
        sample_ids=tuple(row.sample_id for row in rows),
        num_supervised=sum(row.num_supervised for row in rows),
    )


def dummy_batch(*, pad_id: int, settings: ModelSettings) -> Batch:
    """A batch that costs next to nothing and adds exactly 0 to the loss and to every gradient.

    For ranks that have fewer micro-steps than others: collectives need every rank.
    """
    row = EncodedRow(
        sample_id="",
        input_ids=torch.full((2,), pad_id, dtype=torch.int64),
        labels=torch.full((2,), IGNORE_INDEX, dtype=torch.int64),
        pixels=blank_pixels(0, settings),
    )
    return replace(collate([row], pad_id=pad_id), sample_ids=())
