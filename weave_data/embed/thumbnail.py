"""Colour layout without any model: what `embedding.model: none` means."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["ThumbnailEmbedder"]

SIDE_PX = 8


class ThumbnailEmbedder:
    """8 x 8 RGB thumbnails, centred and normalised: float[192]. Groups look alike but mean nothing."""

    name = "none"
    dim = 3 * SIDE_PX * SIDE_PX
    weights_sha256 = ""
    device = "cpu"

    def embed(self, clips: Sequence[Sequence[bytes]]) -> npt.NDArray[np.float32]:
        """See `Embedder.embed`."""
        return np.stack([_clip_vector(clip) for clip in clips])


def _clip_vector(frames: Sequence[bytes]) -> npt.NDArray[np.float32]:
    vector = np.mean([_frame_vector(frame) for frame in frames], axis=0)
    return np.asarray(_unit(vector), dtype=np.float32)


def _frame_vector(data: bytes) -> npt.NDArray[np.float64]:
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    pixels = np.asarray(image, dtype=np.float64).ravel() / 255.0
    return _unit(pixels - pixels.mean() + 1e-6)


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)
