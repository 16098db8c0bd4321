"""One Ray head node of a test's own: private ports and folder, stopped by process id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 300
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class RayHead:
    """Addresses of a running head node."""

    gcs_address: str
    dashboard: str


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


@contextlib.contextmanager
def ray_head(folder: Path, *, num_cpus: int = 2, num_gpus: int = 0) -> Iterator[RayHead]:
    """`ray start --head` with a dashboard, on loopback, until the context ends."""
    port, dashboard, client, agent, grpc = _free_ports(5)
    head = RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
    with (folder / "ray.log").open("wb") as log, tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        process = subprocess.Popen(
            [
                RAY, "start", "--head", "--block", "--disable-usage-stats",
                f"--port={port}", "--node-ip-address=127.0.0.1",
                f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
                f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={grpc}",
                f"--ray-client-server-port={client}", f"--temp-dir={scratch}",
                f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}", "--object-store-memory=300000000",
            ],
            stdout=log, stderr=log, start_new_session=True, env=dict(os.environ),
        )  # fmt: skip
        try:
            _wait_until_up(process, head, folder / "ray.log")
            yield head
        finally:
            _stop(process)


def _wait_until_up(process: subprocess.Popen[bytes], head: RayHead, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # the dashboard answers some time before its node is there, or has failed to start
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{head.dashboard}/api/v0/nodes", timeout=60) as reply,
        ):
            if any(node["state"] == "ALIVE" for node in json.load(reply)["data"]["result"]["result"]):
                return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise AssertionError(f"the Ray head did not come up:\n{log.read_text()[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for left in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    psutil.wait_procs(family, timeout=30)
