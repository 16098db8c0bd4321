"""JPEG bytes to model input, and frame vectors to clip vectors."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

__all__ = ["decode_jpeg", "embed_frames"]


def decode_jpeg(data: bytes) -> Image.Image:
    """RGB image of stored JPEG bytes."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def embed_frames(
    clips: Sequence[Sequence[bytes]],
    *,
    transform: Callable[[Image.Image], torch.Tensor],
    encode: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int,
    pool: ThreadPoolExecutor,
) -> npt.NDArray[np.float32]:
    """Mean of unit frame vectors per clip, normalised.

    Args:
        clips: JPEG bytes of each clip's frames.
        transform: Image to float[3, H, W].
        encode: float[N, 3, H, W] to float[N, dim].
        batch_size: Frames per forward pass; the result does not depend on it.
        pool: Threads that decode JPEGs while the device works on the batch before.

    Returns:
        float32[len(clips), dim], unit rows.
    """
    frames = [frame for clip in clips for frame in clip]
    decoded = pool.map(lambda data: transform(decode_jpeg(data)), frames)
    vectors = torch.cat([_unit(encode(batch).float()).cpu() for batch in _batches(decoded, batch_size)])
    owner = torch.repeat_interleave(torch.arange(len(clips)), torch.tensor([len(clip) for clip in clips]))
    sums = torch.zeros(len(clips), vectors.shape[1]).index_add_(0, owner, vectors)
    return np.asarray(_unit(sums).numpy(), dtype=np.float32)


def _batches(images: Iterator[torch.Tensor], batch_size: int) -> Iterator[torch.Tensor]:
    batch: list[torch.Tensor] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _unit(vectors: torch.Tensor) -> Any:
    return torch.nn.functional.normalize(vectors, dim=-1)
