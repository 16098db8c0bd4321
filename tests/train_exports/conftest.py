"""Small CLIP and SigLIP towers have vision ids here, and come back when a run is loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_exports import rebuild_tower
from tiny_rows import CAPTIONS

from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.towers import TOWERS, TowerSpec

torch.set_num_threads(1)

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def small_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOWERS, "small-clip", TowerSpec("small-clip", 32, 8, 32))
    monkeypatch.setitem(TOWERS, "small-siglip", TowerSpec("small-siglip", 32, 8, 32, HALF, HALF))
    monkeypatch.setattr("weave_train.models.model.build_tower", rebuild_tower)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_caption_tokenizer(CAPTIONS, vocab_size=300)
