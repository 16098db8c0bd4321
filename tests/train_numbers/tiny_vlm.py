"""The tiny model and batches of rows with given numbers of frames."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, assemble_model
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.rows.batch import Batch, EncodedRow, collate
from weave_train.rows.pixels import blank_pixels
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID
from weave_train.towers import num_visual_tokens

SETTINGS = ModelSettings(precision="fp32", llm_max_length=256)


@functools.cache
def _tokenizer() -> Any:
    return train_caption_tokenizer(["A red circle moves left.", "A square moves up."], vocab_size=300)


def make_vlm(language_config: Any = None, *, settings: ModelSettings = SETTINGS) -> VideoLanguageModel:
    """Three ViT blocks, of which two run, and two Llama layers unless another Llama is asked for."""
    return assemble_model(settings, _tokenizer(), language_config=language_config)


def make_row(
    num_frames: int, *, name: str = "row", seed: int = 0, text: int = 9, settings: ModelSettings = SETTINGS
) -> EncodedRow:
    """A row whose text grows with its frames; the last third of the text is supervised."""
    generator = torch.Generator().manual_seed(1000 * seed + num_frames)
    num_visual = num_visual_tokens(num_frames, settings)
    words = torch.randint(5, 250, (text + num_frames,), generator=generator)
    ids = torch.cat([torch.full((num_visual,), VISUAL_TOKEN_ID), words])
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[-len(words) // 3 :] = ids[-len(words) // 3 :]
    pixels = torch.randint(
        0, 256, blank_pixels(num_frames, settings).shape, dtype=torch.uint8, generator=generator
    )
    return EncodedRow(name, ids, labels, pixels)


def make_batch(vlm: VideoLanguageModel, frames: Sequence[int]) -> Batch:
    """One row for each number of frames."""
    return collate([make_row(n, settings=vlm.settings) for n in frames], pad_id=vlm.tokenizer.pad_token_id)
