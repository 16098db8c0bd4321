"""Memory of this process: the device's allocator, or what lies in RAM."""

from __future__ import annotations

import torch

__all__ = ["memory_bytes"]


def memory_bytes(device: torch.device) -> int:
    """Most bytes the allocator of a GPU has handed out since the start; resident bytes on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil  # only where there is no allocator to ask

    return int(psutil.Process().memory_info().rss)
