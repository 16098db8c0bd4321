"""open_clip image towers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from weave_data.config import EmbeddingConfig
from weave_data.embed.images import embed_frames
from weave_data.embed.weights import weights_sha256
from weave_data.torchvision_ops import install

__all__ = ["ClipEmbedder"]

RANDOM_SEED = 0


class ClipEmbedder:
    """Image features of an open_clip model: float[dim] of the joint image-text space.

    Source:
        VideoWeave's companion code pools CLIP features of 32 frames of a clip. Differs: features are
        projected and normalised per frame before the mean, and the stored frames are used.
    """

    def __init__(self, config: EmbeddingConfig, *, device: str) -> None:
        install()  # before torchvision, which open_clip imports
        import open_clip

        self.name = f"{config.model}/{config.pretrained}"
        self.device = device
        self._batch_size = config.batch_size
        self._dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            model, _, transform = open_clip.create_model_and_transforms(
                config.model, pretrained=None if config.pretrained == "random" else config.pretrained
            )
        state = {name: value for name, value in model.state_dict().items() if name.startswith("visual.")}
        self.weights_sha256 = weights_sha256(state)
        self._model = model.visual.to(device).eval().requires_grad_(False)
        self._transform = transform
        self.dim = int(model.visual.output_dim)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="jpeg")

    def embed(self, clips: Sequence[Sequence[bytes]]) -> npt.NDArray[np.float32]:
        """See `Embedder.embed`."""
        return embed_frames(
            clips,
            transform=self._transform,
            encode=self._encode,
            batch_size=self._batch_size,
            pool=self._pool,
        )

    @torch.inference_mode()
    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        enabled = self._dtype is torch.bfloat16
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=enabled):
            features: torch.Tensor = self._model(images.to(self.device, non_blocking=True))
        return features
