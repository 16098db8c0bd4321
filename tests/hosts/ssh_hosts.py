"""sshd on virtual hosts, and `weave-train launch` from another one: keys, ports and files of a test's own.

    with ssh_hosts(network.hosts[:2], folder, disk=folder / "runs") as cluster:
        cluster.hostfile(slots=1)                              # a file for --hostfile
        cluster.launch(launcher_host, ["--launcher", "torchrun", ...], environment)   # a Popen
        cluster.disk_of(host)                                  # what lies below `disk` on that host only
    cluster.busy()                                         # who runs there, beside sshd

`disk` is a file system of each host's own: whoever expects a file of another host there does not find it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from netns import Host

PORT = 2222
REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60
SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class SshHosts:
    """Hosts that take commands. `daemons` are their sshd's, in their order."""

    hosts: tuple[Host, ...]
    folder: Path
    disk: Path
    daemons: tuple[subprocess.Popen[Any], ...]

    @property
    def ssh(self) -> str:
        """The program with this cluster's configuration."""
        return shlex.join(["ssh", "-F", str(self.folder / "ssh_config")])

    def hostfile(self, *, slots: int = 1) -> Path:
        """Hosts by name, `slots` ranks each."""
        path = self.folder / f"hostfile-{slots}"
        path.write_text("".join(f"{host.name} slots={slots}\n" for host in self.hosts))
        return path

    def launch(
        self, start: Host, flags: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[str]:
        """`weave-train launch` over the hosts, one rank on each, started on another."""
        command = [sys.executable, "-m", "weave_train", "launch", "--hostfile", str(self.hostfile())]
        return start.start(
            [*command, "--ssh", self.ssh, "--directory", str(REPOSITORY), *flags],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def disk_of(self, host: Host) -> Path:
        """The host's own file system, seen from outside."""
        daemon = self.daemons[self.hosts.index(host)]
        return Path(f"/proc/{daemon.pid}/root{self.disk}")

    def busy(self) -> dict[str, list[int]]:
        """Processes on the hosts beside sshd itself, by the host's name."""
        daemons = {daemon.pid for daemon in self.daemons}
        return {host.name: sorted(set(host.process_ids()) - daemons) for host in self.hosts}


@contextlib.contextmanager
def ssh_hosts(hosts: Sequence[Host], folder: Path, *, disk: Path) -> Iterator[SshHosts]:
    """Start sshd on each host; they end with the hosts. Skips where there is no sshd."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)
    disk.mkdir()
    _write_files(hosts, folder)
    # a file system of its own below `disk`, then sshd, which keeps the process id
    inside = f'mount -t tmpfs tmpfs "{disk}" && exec {SSHD} -D -e -f "{folder}/sshd_config"'
    daemons = []
    with (folder / "sshd.log").open("ab") as log:
        for host in hosts:
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside]
            daemons.append(host.start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    cluster = SshHosts(tuple(hosts), folder, disk, tuple(daemons))
    deadline = time.monotonic() + START_SECONDS
    for host in hosts:
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host.address, PORT), timeout=5):
                break
            assert time.monotonic() < deadline, (folder / "sshd.log").read_text()
            time.sleep(0.05)
    yield cluster


def _write_files(hosts: Sequence[Host], folder: Path) -> None:
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)], check=True
        )
    home = folder / "home"
    home.mkdir()
    (folder / "sshd_config").write_text(
        f"Port {PORT}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/key.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
        f"SetEnv HOME={home} HF_HUB_OFFLINE=1\n"
    )
    kind, key, *_ = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(
        "".join(f"[{name}]:{PORT} {kind} {key}\n" for host in hosts for name in (host.name, host.address))
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  Port {PORT}\n  User root\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking yes\n"
    )
