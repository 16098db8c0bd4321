"""open_clip text towers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from weave_data.config import EmbeddingConfig
from weave_data.embed.clip import RANDOM_SEED
from weave_data.embed.weights import weights_sha256
from weave_data.errors import DeviceError
from weave_data.torchvision_ops import install

__all__ = ["ClipTextEmbedder"]


class ClipTextEmbedder:
    """Text features of an open_clip model: float[dim] of the joint image-text space."""

    def __init__(self, config: EmbeddingConfig, *, device: str) -> None:
        install()  # before torchvision, which open_clip imports
        import open_clip

        self.name = f"{config.model}/{config.pretrained} text"
        self.device = device
        self._batch_size = config.batch_size
        self._dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            model = open_clip.create_model(
                config.model, pretrained=None if config.pretrained == "random" else config.pretrained
            )
        try:
            self._tokenizer = open_clip.get_tokenizer(config.model)
        except OSError as error:
            raise DeviceError(
                f"embedding.model: the tokenizer of {config.model} is not there ({type(error).__name__}); "
                "fetch it where the hub is reachable, or choose a model with open_clip's own, as ViT-B-32"
            ) from error
        state = model.state_dict()
        self.weights_sha256 = weights_sha256(
            {name: value for name, value in state.items() if not name.startswith("visual.")}
        )
        self.dim = int(model.visual.output_dim)
        model.visual = None  # the larger half is not needed
        self._model = model.to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See `TextEmbedder.embed_texts`."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        starts = range(0, len(texts), self._batch_size)
        vectors = [self._encode(list(texts[start : start + self._batch_size])) for start in starts]
        return np.asarray(torch.cat(vectors).numpy(), dtype=np.float32)

    def _encode(self, texts: list[str]) -> torch.Tensor:
        enabled = self._dtype is torch.bfloat16
        tokens = self._tokenizer(texts).to(self.device)
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=enabled):
            features = self._model.encode_text(tokens)
        unit: torch.Tensor = torch.nn.functional.normalize(features.float(), dim=-1).cpu()
        return unit
