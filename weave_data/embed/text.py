"""Captions into the joint space of an open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from weave_data.config import EmbeddingConfig
from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install

__all__ = ["TextEmbedder", "has_text_tower", "load_text_embedder"]

Vectors = npt.NDArray[np.float32]


class TextEmbedder(Protocol):
    """Turns captions into unit vectors, comparable with the image vectors of the same configuration."""

    name: str
    dim: int
    weights_sha256: str
    device: str

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, cut to what the model reads.

        Args:
            texts: Any number of them.

        Returns:
            float32[len(texts), dim], unit rows.
        """
        ...


def has_text_tower(config: EmbeddingConfig) -> bool:
    """True when the configured embedder understands captions too."""
    return config.has_text_tower


def load_text_embedder(config: EmbeddingConfig, device: str = "cpu") -> TextEmbedder:
    """Load the text tower and tokenizer of the configured open_clip model.

    Raises:
        ConfigError: The configured embedder has no text tower.
        DeviceError: The device, the weights or the tokenizer are not there.
    """
    if not has_text_tower(config):
        raise ConfigError(
            f"embedding.model: {config.model} looks at pictures only; comparing captions (strategy caption) "
            "needs an open_clip model, as ViT-B-32"
        )
    install()
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {device!r}: torch sees no GPU here; set execution.gpus=0 or add one")
    from weave_data.embed.clip_text import ClipTextEmbedder

    return ClipTextEmbedder(config, device=device)
