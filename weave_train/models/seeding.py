"""Seeded random weights that leave the process's random streams alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded_weights"]


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Draw CPU random numbers as after `torch.manual_seed(seed)`, then restore the generator.

    Only the CPU generator is touched: `torch.manual_seed` would also reseed every GPU.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
