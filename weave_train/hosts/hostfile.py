"""A hostfile as DeepSpeed and MPI have it: `name slots=N`, a line a host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConfigError

__all__ = ["Host", "read_hostfile"]

_LINE = re.compile(r"(\S+)\s+slots=(\d+)")


@dataclass(frozen=True)
class Host:
    """A host: its name for ssh (None: this one), and its ranks."""

    name: str | None
    slots: int

    def __str__(self) -> str:
        return self.name or "this host"


def read_hostfile(path: Path) -> tuple[Host, ...]:
    """Hosts in the order of their ranks; the first has rank 0.

    Raises:
        ConfigError: The file can't be read, or every line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"hostfile: can't read {path}: {error.strerror}", origin="command line") from error
    hosts: dict[str, Host] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None or int(found[2]) < 1 or found[1].startswith("-"):
            problems.append(f"line {number}: {text!r}; write NAME slots=RANKS")
        elif found[1] in hosts:
            problems.append(f"line {number}: {found[1]!r} is there already; give its slots in one line")
        else:
            hosts[found[1]] = Host(found[1], int(found[2]))
    if not hosts and not problems:
        problems.append("has no host; write NAME slots=RANKS, a line a host")
    if problems:
        raise ConfigError(problems, origin=str(path))
    return tuple(hosts.values())
