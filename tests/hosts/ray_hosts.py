"""A Ray cluster over virtual hosts: the head on the first, token authentication on, the session's S3 for all.

with ray_hosts(network, folder, cpus=(1, 1), environment=...) as cluster:
    cluster.run(["weave-data", "submit", ...])     # from outside, as a user would
    cluster.add(host, num_cpus=1)                  # another node, while work goes on
    cluster.nodes[1].host.kill()                   # SIGKILL to a node and all it runs
    cluster.nodes_that_ran("MapWorker(...")        # from Ray's own record of tasks
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netns import Host, Network

START_SECONDS = 500
BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
PATIENT_RAY = Path(__file__).with_name("patient_ray.py")
PATIENCE = {
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_worker_register_timeout_seconds": "600",
}


@dataclass
class Node:
    """One Ray node; its session files lie in a folder of its own."""

    host: Host
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class RayHosts:
    """A running cluster."""

    folder: Path
    environment: dict[str, str]
    scratch: Path
    nodes: list[Node] = field(default_factory=list)

    @property
    def dashboard(self) -> str:
        return f"http://{self.nodes[0].host.address}:8265"

    def add(self, host: Host, *, num_cpus: int, num_gpus: int = 0) -> Node:
        """Start a node and wait until the head lists it."""
        place = ["--head", "--port=6379", "--dashboard-host=0.0.0.0"]
        if self.nodes:
            place = [f"--address={self.nodes[0].host.address}:6379"]
        log = self.folder / f"{host.name}-{secrets.token_hex(2)}.log"
        with log.open("wb") as sink:
            process = host.start(
                [
                    sys.executable, str(PATIENT_RAY), "start", *place, "--block", "--disable-usage-stats",
                    f"--node-ip-address={host.address}", f"--temp-dir={self.scratch / host.name}",
                    f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}", "--object-store-memory=200000000",
                ],
                stdout=sink, stderr=sink, env=self.environment,
            )  # fmt: skip
        node = Node(host, process, log)
        self.nodes.append(node)
        deadline = time.monotonic() + START_SECONDS
        while host.address not in self.alive():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{host.name} does not join:\n{log.read_text()[-3000:]}"
            time.sleep(0.5)
        return node

    def alive(self) -> set[str]:
        """Addresses of the nodes that the head takes for alive."""
        with contextlib.suppress(OSError):
            return {node["node_ip"] for node in self._listed("nodes") if node["state"] == "ALIVE"}
        return set()

    def nodes_that_ran(self, name: str) -> Counter[str]:
        """Finished tasks whose name holds `name`, by the address of their node."""
        return Counter(task["address"] for task in self.tasks(name) if task["state"] == "FINISHED")

    def tasks(self, name: str) -> list[dict[str, Any]]:
        """Ray's record of tasks whose name holds `name`, each with its node's `address`."""
        addresses = {node["node_id"]: node["node_ip"] for node in self._listed("nodes")}
        return [
            task | {"address": addresses.get(task["node_id"])}
            for task in self._listed("tasks", "&detail=1")
            if name in task["name"]
        ]

    def run(
        self, command: Sequence[str], *, timeout: float, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command outside the hosts with the cluster's token and no key to the store."""
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder,
            env=self.outside() | variables,
        )  # fmt: skip

    def outside(self) -> dict[str, str]:
        """The environment of somebody who submits."""
        return {name: value for name, value in self.environment.items() if not name.startswith("AWS_")}

    def _listed(self, what: str, options: str = "") -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.dashboard}/api/v0/{what}?limit=10000{options}",
            headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            listed: list[dict[str, Any]] = json.load(reply)["data"]["result"]["result"]
            return listed


@contextlib.contextmanager
def ray_hosts(
    network: Network, folder: Path, *, cpus: Sequence[int], environment: Mapping[str, str]
) -> Iterator[RayHosts]:
    """Start a node with `cpus[i]` CPUs on the i-th host; all of them end with the context."""
    scratch = Path(tempfile.mkdtemp(prefix="rh-"))  # sockets have short paths
    cluster = RayHosts(
        folder,
        {
            **os.environ,
            **environment,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            **PATIENCE,
            "OMP_NUM_THREADS": "1",
        },
        scratch,
    )
    try:
        for host, num_cpus in zip(network.hosts, cpus, strict=False):
            cluster.add(host, num_cpus=num_cpus)
        yield cluster
    finally:
        for node in cluster.nodes:
            node.host.kill()
        shutil.rmtree(scratch, ignore_errors=True)
