"""Real small language models for tests, where they can be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from smollm2_weights import write_smollm2


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as a transformers folder; skips the test where there are no weights."""
    ready = Path(os.environ.get("WEAVE_ASSETS", "")) / "models" / "smollm2"
    if (ready / "model.safetensors").is_file():
        return ready
    try:
        return write_smollm2(folder)
    except FileNotFoundError as error:
        pytest.skip(f"{error}; or fill $WEAVE_ASSETS/models/smollm2")
