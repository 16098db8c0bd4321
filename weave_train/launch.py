"""Which rank this process is, however it was started, and how to start local ranks.

weave-train pretrain ...                                     one process, its own group of one
torchrun --nproc-per-node 2 -m weave_train pretrain ...      RANK, WORLD_SIZE, LOCAL_RANK are set
deepspeed --module weave_train pretrain ...                  the same, and --local_rank=N on the line
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from weave_data.errors import ConfigError

__all__ = [
    "PARENT_VARIABLE",
    "Launch",
    "detect_launch",
    "free_port",
    "leave_with_parent",
    "rank_environment",
]

PARENT_VARIABLE = "WEAVE_TRAIN_PARENT"
"""Process id of whoever started this rank and must not be outlived."""

_PARENT_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Launch:
    """This process among the ranks of a run."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True on the rank that writes shared files and prints."""
        return self.rank == 0


def detect_launch() -> Launch:
    """Read the launcher's environment; a lone process sets one up for itself.

    Raises:
        ConfigError: The environment names a rank but not the rest.
    """
    if "RANK" not in os.environ:
        os.environ.update(rank_environment(0, world_size=1, port=free_port()))
    missing = [
        name for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ConfigError(
            f"RANK is set but {', '.join(missing)} is not; start ranks with torchrun or deepspeed, "
            "or unset RANK",
            origin="environment",
        )
    leave_with_parent()
    local_rank = int(os.environ["LOCAL_RANK"])
    return Launch(
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        local_rank=local_rank,
        device=_device(local_rank),
    )


def leave_with_parent() -> None:
    """End this process when the one that started it is gone; without `WEAVE_TRAIN_PARENT`, nothing.

    A killed launcher can't end its ranks, which would train on, unseen, holding their GPUs.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or int(parent) != os.getppid():
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="weave-parent", daemon=True).start()


def rank_environment(rank: int, *, world_size: int, port: int) -> Mapping[str, str]:
    """Variables of one rank of a group on this machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        _share_cores()
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _share_cores() -> None:
    """Ranks of one machine share its cores; a choice in OMP_NUM_THREADS stands."""
    if "OMP_NUM_THREADS" not in os.environ:
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))
