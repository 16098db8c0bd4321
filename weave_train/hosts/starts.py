"""What is started on one host: the launcher's own command line, over `weave-train pretrain`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from weave_train.hosts.hostfile import Host

__all__ = ["CONFIG", "HostLauncher", "Rendezvous", "start_command"]

HostLauncher = Literal["deepspeed", "torchrun"]

CONFIG = "{config}"
"""Stands for the settings' file, which each host makes for itself."""


@dataclass(frozen=True)
class Rendezvous:
    """Where and as whom a host meets the others.

    Attributes:
        address: Of the first host, as the others reach it.
        port: There.
        num_nodes: Hosts in all; more than are started from here where each starts its own.
        run_id: None: the hosts' order is known, the first has rank 0. Else hosts that are started one by one
            find each other under this name.
        own_address: Of this host, as the others reach it; None: as its name says.
    """

    address: str
    port: int
    num_nodes: int
    run_id: str | None = None
    own_address: str | None = None


def start_command(
    launcher: HostLauncher, python: str, hosts: Sequence[Host], node: int, meeting: Rendezvous
) -> list[str]:
    """Command of host `node` (of `hosts`, from 0); `CONFIG` in it stands for the settings' file."""
    ours = ["weave_train", "pretrain", "--config", CONFIG]
    if launcher == "torchrun":
        return [python, "-m", "torch.distributed.run", *_torchrun(hosts, node, meeting), "-m", *ours]
    # the command that `deepspeed --hostfile` starts on each host
    world = json.dumps({str(host): list(range(host.slots)) for host in hosts})
    return [
        *(python, "-u", "-m", "deepspeed.launcher.launch"),
        f"--world_info={base64.urlsafe_b64encode(world.encode()).decode()}",
        f"--node_rank={node}",
        f"--master_addr={meeting.address}",
        f"--master_port={meeting.port}",
        *("--log_level=warning", "--module", *ours),
    ]


def _torchrun(hosts: Sequence[Host], node: int, meeting: Rendezvous) -> list[str]:
    own = [] if meeting.own_address is None else [f"--local-addr={meeting.own_address}"]
    count = [f"--nnodes={meeting.num_nodes}", f"--nproc-per-node={hosts[node].slots}"]
    if meeting.run_id is None:
        where = [f"--node-rank={node}", f"--master-addr={meeting.address}", f"--master-port={meeting.port}"]
    else:
        endpoint = f"--rdzv-endpoint={meeting.address}:{meeting.port}"
        where = ["--rdzv-backend=c10d", endpoint, f"--rdzv-id={meeting.run_id}"]
    return [*count, *where, *own, "--max-restarts=0"]
