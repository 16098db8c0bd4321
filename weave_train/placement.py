"""What a rank sets up on its machine, the same under every launcher: threads, and the way to the others.

torchrun and Ray give each rank one thread, deepspeed all cores; the same sums over other threads are rounded
otherwise. gloo takes the address behind the host's own name, on Debian 127.0.1.1, which no other host
reaches.
"""

from __future__ import annotations

import os
import socket

import torch

__all__ = ["address_towards", "choose_interface", "choose_threads", "local_world_size"]

_ANY_PORT = 9  # nothing is sent


def local_world_size() -> int:
    """Ranks of this machine, as torchrun and Ray or as deepspeed say it; 1 where nobody does."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)


def choose_threads(num_threads: int | None) -> None:
    """Set torch's threads.

    On CPUs the number decides how losses are rounded, so that it depends on the world's size and not on where
    its ranks are: a rank takes its machine's cores divided by the run's ranks, two on one host or on two. On
    several hosts cores are left over, and hosts with other cores than the rest round otherwise: `num_threads`
    is for both. On GPUs the host's threads round nothing, and a machine's ranks share all of its cores.

    Args:
        num_threads: As asked for; None: OMP_NUM_THREADS, unless a launcher set that, else as above.
    """
    torch.set_num_threads(num_threads or _chosen_in_environment() or _share())


def choose_interface(interface: str | None, *, towards: str) -> None:
    """Set the network interface over which ranks meet, unless GLOO_SOCKET_IFNAME or NCCL's is there already.

    Args:
        interface: As asked for, for gloo and NCCL; None: for gloo the one that leads to `towards`, while NCCL
            chooses by itself.
        towards: Name or address of the first rank's host.
    """
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = interface
    elif "GLOO_SOCKET_IFNAME" not in os.environ:
        found = _interface_of(address_towards(towards))
        if found is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = found


def address_towards(host: str) -> str | None:
    """This machine's address as `host` sees it; None where that is no network address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if found.startswith("127.") or found == "::1" else found


def _interface_of(address: str | None) -> str | None:
    import psutil

    for name, held in psutil.net_if_addrs().items():
        if address is not None and any(item.address.partition("%")[0] == address for item in held):
            return str(name)
    return None


def _chosen_in_environment() -> int | None:
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if not chosen.isdecimal() or int(chosen) < 1:
        return None
    # 1 is what torchrun sets for several ranks and Ray for a worker with one CPU or none
    has_default = "TORCHELASTIC_RUN_ID" in os.environ or "RAY_JOB_ID" in os.environ
    return None if has_default and chosen == "1" else int(chosen)


def _share() -> int:
    num_ranks = local_world_size()
    if not torch.cuda.is_available():
        num_ranks = int(os.environ.get("WORLD_SIZE") or num_ranks)
    return max(1, (os.cpu_count() or 1) // num_ranks)
