"""Small CLIP and SigLIP towers have vision ids here, and come back when a run is loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_exports import rebuild_tower, small_spec
from tiny_rows import CAPTIONS

from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.towers import TOWERS

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOWERS, "small-clip", small_spec("clip-vit-l"))
    monkeypatch.setitem(TOWERS, "small-siglip", small_spec("siglip-vit-so400m"))
    monkeypatch.setattr("weave_train.models.model.build_tower", rebuild_tower)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_caption_tokenizer(CAPTIONS, vocab_size=300)
