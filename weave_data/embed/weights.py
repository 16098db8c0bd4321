"""One sum for a set of weights, wherever they were loaded from."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

__all__ = ["weights_sha256"]


def weights_sha256(state: dict[str, Any]) -> str:
    """Sha256 over a state dict: name, dtype, shape and bytes of every tensor in sorted name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(dtype=torch.uint8).numpy().tobytes())
    return digest.hexdigest()
