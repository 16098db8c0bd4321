"""Which rank this process is, however it was started, and how to start local ranks.

weave-train pretrain ...                                     one process, its own group of one
torchrun --nproc-per-node 2 -m weave_train pretrain ...      RANK, WORLD_SIZE, LOCAL_RANK are set
deepspeed --module weave_train pretrain ...                  the same, and --local_rank=N on the line
weave-train launch ...                                       either, on several hosts; see `weave_train.hosts`
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from weave_data.errors import ConfigError
from weave_train.overseer import leave_with_parent
from weave_train.placement import choose_interface, choose_threads, local_world_size

__all__ = ["Launch", "detect_launch", "free_port", "local_device", "rank_environment"]


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


def detect_launch(*, num_threads: int | None = None, interface: str | None = None) -> Launch:
    """Read the launcher's environment; a lone process sets one up for itself.

    Args:
        num_threads: See `placement.choose_threads`.
        interface: See `placement.choose_interface`.

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
    local_rank, world_size = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    choose_threads(num_threads)
    if interface is not None or world_size > local_world_size():
        choose_interface(interface, towards=os.environ["MASTER_ADDR"])
    return Launch(
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        local_rank=local_rank,
        device=local_device(local_rank),
    )


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


def local_device(local_rank: int) -> torch.device:
    """This rank's GPU, made the current one, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
