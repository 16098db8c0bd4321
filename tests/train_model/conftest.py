"""Tiny models and rows, on one thread."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.rows.batch import EncodedRow, make_row

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def settings() -> ModelSettings:
    return ModelSettings(precision="fp32", llm_max_length=256)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_caption_tokenizer(CAPTIONS, vocab_size=320)


@pytest.fixture
def vlm(settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return build_model(settings, tokenizer)


@pytest.fixture(scope="session")
def mixed_rows(settings: ModelSettings, tokenizer: Any) -> list[EncodedRow]:
    """A video of four frames, text only, an image, a video of two frames: lengths differ, too."""
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 220)]
    rows = [
        woven_row("video-4", [jpeg(c) for c in colours], CAPTIONS[0]),
        woven_row("text", [], CAPTIONS[5] + " Nothing was shown."),
        woven_row("image", [jpeg(colours[1], width=30, height=70)], "A green circle."),
        woven_row("video-2", [jpeg(c) for c in colours[:2]], CAPTIONS[9], question="And now, what?"),
    ]
    return [make_row(row, tokenizer=tokenizer, settings=settings) for row in rows]
