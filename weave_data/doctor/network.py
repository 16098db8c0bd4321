"""Which interface gloo and NCCL talk over: with several, their own choice is often the wrong one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from weave_data.doctor.finding import Finding, Status

__all__ = ["judge", "look"]

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def look() -> dict[str, Any]:
    """`interfaces`: name -> IPv4 addresses of those that are up, loopback left out; `chosen`: by variable."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    interfaces = {
        name: [item.address for item in addresses if item.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
        if name in up and name != "lo"
    }
    return {
        "interfaces": {name: addresses for name, addresses in interfaces.items() if addresses},
        "chosen": {name: os.environ[name] for name in VARIABLES if os.environ.get(name)},
    }


def judge(
    facts: Mapping[str, Any], *, num_nodes: int, needed: Sequence[str] = VARIABLES, node: str
) -> list[Finding]:
    """Findings about one node; on a lone one ranks talk over the loopback, and anything will do.

    Args:
        facts: As `look` gives them.
        num_nodes: That ranks are on.
        needed: Variables without which a library chooses for itself.
        node: Its name.
    """
    interfaces, chosen = facts["interfaces"], facts["chosen"]
    shown = ", ".join(f"{name} ({' '.join(addresses)})" for name, addresses in interfaces.items()) or "none"
    findings = []
    for variable, value in chosen.items():
        if not _matches(value, [*interfaces, "lo"], is_nccl=variable.startswith("NCCL")):
            found = f"{variable}={value} names no interface that is up; there are {shown}"
            remedy = f"name one of {', '.join(interfaces) or 'lo'}, the one that the nodes share"
            findings.append(Finding("network", Status.FAIL, found, remedy, node))
    if findings:
        return findings
    unset = [name for name in needed if name not in chosen]
    if num_nodes > 1 and len(interfaces) > 1 and unset:
        found = f"{len(interfaces)} interfaces are up: {shown}; {' and '.join(unset)} not set"
        remedy = f"set {', '.join(unset)} to the interface that the nodes share, on every node"
        return [Finding("network", Status.WARN, found, remedy, node)]
    said = "".join(f", {name}={value}" for name, value in chosen.items())
    return [Finding("network", Status.OK, f"{shown}{said}", node=node)]


def _matches(value: str, names: list[str], *, is_nccl: bool) -> bool:
    """Gloo takes names, NCCL prefixes, `=name`, `^prefix`; both lists with commas."""
    if not is_nccl:
        return all(one.strip() in names for one in value.split(","))
    words = value.lstrip("^=").split(",")
    if value.startswith("^"):
        return any(not any(name.startswith(word) for word in words) for name in names)
    if value.startswith("="):
        return any(name in words for name in names)
    return any(name.startswith(word) for name in names for word in words)
