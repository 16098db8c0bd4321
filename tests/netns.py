"""Hosts of a test's own: network namespaces on one bridge, each with an address, a name and its processes.

    with virtual_hosts(2) as network:           # skips the test where namespaces can't be had
        head, worker = network.hosts            # host0, host1; each knows the others by name
        worker.run(["ping", "-c1", "host0"])    # to its end; `start` gives a Popen
        with network.store(s3) as environment:  # AWS_* under which the hosts reach the session's S3 server
            head.start(command, env={**os.environ, **environment})
        worker.kill()                           # SIGKILL to all that runs there
        worker.unplug()                         # or its cable pulled

The hosts see one another and this process' host at `network.address`; nothing beyond. They share the file
system, the process table and /dev/shm. The interface is called `eth0` in all of them.
Names hold this process' id and subnets are taken where free, so that several sessions run side by side.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from servers import S3Server

INTERFACE = "eth0"
SUBNETS = 1 << 13
"""Subnets of 16 addresses in 198.18.0.0/15, which is set aside for tests and routed nowhere."""

MAX_HOSTS = 13
END_SECONDS = 60

_numbers = itertools.count()


@dataclass
class Host:
    """One namespace. `namespace` is what `ip netns` calls it, `name` its host name."""

    name: str
    namespace: str
    address: str
    port: str
    _processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def command(self, command: Sequence[str]) -> list[str]:
        """What runs `command` here; the process keeps its id, nothing forks."""
        inside = f'echo {self.name} >/proc/sys/kernel/hostname; exec "$@"'
        return [
            "ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", inside, "sh", *command
        ]  # fmt: skip

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """`subprocess.Popen` on this host, in a session of its own; killed with the host."""
        process = subprocess.Popen(self.command(command), start_new_session=True, **options)
        self._processes.append(process)
        return process

    def run(
        self, command: Sequence[str], *, timeout: float = 600, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, output captured; a failure is the caller's to judge."""
        return subprocess.run(
            self.command(command), capture_output=True, text=True, timeout=timeout, check=False, **options
        )

    def process_ids(self) -> list[int]:
        """Whatever runs here, children of children included."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, check=False)
        return [int(word) for word in listed.stdout.split()]

    def kill(self) -> None:
        """SIGKILL to every process here, as when the power goes; the host itself stays."""
        deadline = time.monotonic() + END_SECONDS
        while pids := self.process_ids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._processes:
                process.poll()
            assert time.monotonic() < deadline, f"{self.name}: {pids} do not end"
            time.sleep(0.02)
        for process in self._processes:
            process.wait(END_SECONDS)

    def unplug(self) -> None:
        """Cut the host off: packets vanish, nobody is told."""
        _ip("link", "set", self.port, "down")

    def plug(self) -> None:
        """Undo `unplug`."""
        _ip("link", "set", self.port, "up")


@dataclass(frozen=True)
class Network:
    """Hosts on one bridge; `address` is that of the host this process runs on."""

    address: str
    hosts: tuple[Host, ...]

    @contextlib.contextmanager
    def forward(self, host: str, port: int, *, delay_seconds: float = 0.0) -> Iterator[int]:
        """Pass connections to a port of `address` (yielded) on to a server on this process' loopback.

        Args:
            host: Where the server listens.
            port: The same.
            delay_seconds: How much later every piece of a reply arrives, as from far away.
        """
        with socket.create_server((self.address, 0), backlog=512) as listener:
            threading.Thread(
                target=_accept, args=(listener, (host, port), delay_seconds), daemon=True
            ).start()
            try:
                yield listener.getsockname()[1]
            finally:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the accepting thread

    @contextlib.contextmanager
    def store(self, s3: S3Server, *, delay_seconds: float = 0.0) -> Iterator[dict[str, str]]:
        """AWS_* of the session's S3 server as the hosts reach it."""
        target = urlsplit(s3.endpoint)
        assert target.hostname is not None
        assert target.port is not None
        with self.forward(target.hostname, target.port, delay_seconds=delay_seconds) as port:
            yield s3.environment | {"AWS_ENDPOINT_URL": f"http://{self.address}:{port}"}


@contextlib.contextmanager
def virtual_hosts(count: int) -> Iterator[Network]:
    """`count` hosts, gone with all that runs on them when the context ends; skips where impossible."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    assert 1 <= count <= MAX_HOSTS
    tag = f"wv{os.getpid()}-{next(_numbers)}"
    bridge = f"{tag}b"
    with contextlib.ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "delete", bridge)
        *addresses, own = _addresses(bridge, count)
        hosts = tuple(
            Host(f"host{index}", f"{tag}h{index}", address, f"{tag}p{index}")
            for index, address in enumerate(addresses)
        )
        names = "".join(f"{host.address} {host.name}\n" for host in hosts)
        for host in hosts:
            stack.enter_context(_plugged_in(host, bridge, f"127.0.0.1 localhost\n{names}"))
        yield Network(own, hosts)


@functools.cache
def why_not() -> str | None:
    """Why there can be no virtual hosts here, or None."""
    if os.geteuid() != 0:
        return "needs root: several hosts are network namespaces"
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)}: apt-get install iproute2 util-linux"
    probe = f"wv{os.getpid()}-probe"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"needs network namespaces, which this machine refuses: {done.stderr.strip()}"
    done = subprocess.run(
        ["ip", "netns", "exec", probe, "unshare", "--uts", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    _ip("netns", "delete", probe)
    return f"needs namespaces, which this machine refuses: {done.stderr.strip()}" if done.returncode else None


def _addresses(bridge: str, count: int) -> list[str]:
    """Take a free subnet: addresses of the hosts, then of the bridge itself, which is set."""
    for step in range(SUBNETS):
        subnet = (os.getpid() + step) % SUBNETS * 16
        first = f"198.{18 + (subnet >> 16)}.{subnet >> 8 & 255}"
        numbers = range((subnet & 255) + 1, (subnet & 255) + 15)
        taken = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True)
        if any(f" {first}.{number}/" in taken.stdout for number in numbers):
            continue
        own = f"{first}.{numbers[-1]}"
        _ip("address", "add", f"{own}/28", "dev", bridge)
        _ip("link", "set", bridge, "up")
        return [f"{first}.{number}" for number in numbers[:count]] + [own]
    raise AssertionError("no free subnet in 198.18.0.0/15")


@contextlib.contextmanager
def _plugged_in(host: Host, bridge: str, hosts_file: str) -> Iterator[None]:
    files = Path("/etc/netns") / host.namespace  # `ip netns exec` lays these over /etc
    _ip("netns", "add", host.namespace)
    try:
        _ip("link", "add", host.port, "type", "veth", "peer", "name", INTERFACE, "netns", host.namespace)
        _ip("link", "set", host.port, "master", bridge, "up")
        inside = ("-n", host.namespace)
        _ip(*inside, "address", "add", f"{host.address}/28", "dev", INTERFACE)
        _ip(*inside, "link", "set", INTERFACE, "up")
        _ip(*inside, "link", "set", "lo", "up")
        files.mkdir(parents=True)
        (files / "hosts").write_text(hosts_file)
        yield
    finally:
        host.kill()
        # the kernel takes a namespace's links away some time after it; ours are to be gone now
        subprocess.run(["ip", "link", "delete", host.port], stderr=subprocess.DEVNULL, check=False)
        _ip("netns", "delete", host.namespace)
        shutil.rmtree(files, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _accept(listener: socket.socket, target: tuple[str, int], delay_seconds: float) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(client, target, delay_seconds), daemon=True).start()


def _join(client: socket.socket, target: tuple[str, int], delay_seconds: float) -> None:
    with client, contextlib.suppress(OSError), socket.create_connection(target) as server:
        back = threading.Thread(target=_pump, args=(server, client, delay_seconds), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, sink: socket.socket, delay_seconds: float = 0.0) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            time.sleep(delay_seconds)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
