"""One host of a run, as seen from where it was started: ssh to it, its agent behind that."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError
from weave_train.hosts.agent import HELLO
from weave_train.hosts.hostfile import Host

__all__ = ["Connection", "Reach", "agent_command"]

_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15")


@dataclass(frozen=True)
class Reach:
    """How hosts are reached.

    Attributes:
        ssh: Program and its own options, as a shell splits them.
        python: On the hosts.
        directory: On the hosts; relative paths in flags start there.
    """

    ssh: str = "ssh"
    python: str = sys.executable
    directory: str = "."


def agent_command(host: Host, reach: Reach) -> list[str]:
    """What is started here to have an agent there; nothing of it is secret."""
    agent = [reach.python, "-m", "weave_train.hosts.agent"]
    if host.name is None:
        return agent
    # where this package is found here, by an editable install or not, is part of what "the same" means
    paths = os.environ.get("PYTHONPATH")
    if paths:
        found = os.pathsep.join(str(Path(path).absolute()) for path in paths.split(os.pathsep))
        agent = ["env", f"PYTHONPATH={found}", *agent]
    remote = f"cd {shlex.quote(reach.directory)} && exec {shlex.join(agent)}"
    program = shlex.split(reach.ssh)
    options = _SSH_OPTIONS if Path(program[0]).name == "ssh" else ()
    return [*program, *options, host.name, remote]


class Connection:
    """A host's agent; hung up, it ends everything there.

    Raises:
        ConfigError: There is no such program here.

    Attributes:
        host: Of the run.
        hello: What the agent said of itself; None until `has_answered` is set, and where it said nothing.
        has_answered: The agent said hello, or ended before.
    """

    def __init__(self, host: Host, reach: Reach) -> None:
        self.host = host
        self.hello: dict[str, Any] | None = None
        self.has_answered = threading.Event()
        command = agent_command(host, reach)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C ends the hosts through us, not the way to them
            )
        except OSError as error:
            raise ConfigError(
                f"can't start {command[0]!r}: {error.strerror}", origin="command line"
            ) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, line: str) -> None:
        """Send a line to the agent; one that has gone hears nothing."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            return

    def poll(self) -> int | None:
        """Exit code of what ran there, or of ssh (255); None while it runs."""
        return self._process.poll()

    def hang_up(self) -> None:
        """Have everything there end; returns at once."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return

    def wait(self, timeout_s: float) -> None:
        """Until the agent has ended, or give up on the way to it."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"weave-train: {self.host}: does not end; look there for processes it left\n")
            self._process.kill()
            self._process.wait()
        self._reader.join(1.0)

    def _read(self) -> None:
        """Take the hello out of the output and pass the rest on."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self.hello is None and line.startswith(HELLO.encode()):
                self.hello = json.loads(line[len(HELLO) :])
                self.has_answered.set()
                continue
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        self.has_answered.set()
