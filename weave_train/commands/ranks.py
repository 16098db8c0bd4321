"""Starts ranks as processes of this machine or as Ray Train's workers, for `pretrain` and `launch`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weave_train.config import PretrainConfig

__all__ = ["start_ranks"]


def start_ranks(config: PretrainConfig, *, num_ranks: int) -> None:
    """Train and print where the run lies; ends this process with the code of a local rank that failed."""
    if config.launcher == "local":
        from weave_train.plugin import run_local

        code = run_local(config, num_ranks=num_ranks)
        if code:
            sys.exit(code if code > 0 else 1)
        return
    from weave_train.ray_launch import run_on_ray

    result = run_on_ray(config, num_ranks=num_ranks)
    print(f"step {result.final_step}, loss {result.final_loss:.4f}, run {result.run_dir}")
