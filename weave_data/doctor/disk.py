"""Folders that a run writes to, and /dev/shm: is there room, and does a write go through."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from weave_data.doctor.finding import Finding, Status

__all__ = ["judge_folder", "judge_shm", "look"]

TMP = "{tmp}"
"""Stands for the temporary folder of the node."""

_PROBE_BYTES = 1 << 20
_SHM = Path("/dev/shm")  # noqa: S108  only looked at
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "f2fs"})
_SPILL_RATIO = 0.95
"""Ray refuses to write to a disk that is fuller."""


def look(folders: Mapping[str, str]) -> dict[str, Any]:
    """`folders`: what for -> path, free and total bytes, problem; `shm`: free and total; `memory` bytes."""
    shm = shutil.disk_usage(_SHM) if _SHM.is_dir() else None
    return {
        "folders": {what: _folder(path) for what, path in folders.items()},
        "shm": None if shm is None else {"total": shm.total, "free": shm.free},
        "memory": psutil.virtual_memory().total,
    }


def _folder(path: str) -> dict[str, Any]:
    wanted = Path(tempfile.gettempdir() if path == TMP else path).expanduser().absolute()
    existing = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    if not existing.is_dir():
        return {
            "path": str(wanted),
            "total": 0,
            "free": 0,
            "problem": f"{existing} is a file",
            "is_local": False,
        }
    usage = shutil.disk_usage(existing)
    problem = _write_problem(existing)
    return {
        "path": str(wanted),
        "total": usage.total,
        "free": usage.free,
        "problem": problem,
        "is_local": _is_local(existing),
    }


def _is_local(folder: Path) -> bool:
    """The disk or memory of this node alone, as far as its file system tells."""
    mounts = [
        (Path(item.mountpoint), item.fstype)
        for item in psutil.disk_partitions(all=True)
        if folder.is_relative_to(item.mountpoint)
    ]
    kind = max(mounts, key=lambda mount: len(mount[0].parts), default=(Path("/"), ""))[1]
    return kind in _LOCAL


def _write_problem(folder: Path) -> str:
    """Write 1 MiB through to the disk and remove it; "" when that works."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="weave-doctor-") as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def judge_folder(what: str, facts: Mapping[str, Any], *, needed_bytes: float, why: str, node: str) -> Finding:
    """One finding about a folder.

    Args:
        what: It is for; the name of its check.
        facts: Its entry of `look`.
        needed_bytes: That should be free.
        why: The arithmetic behind them.
        node: Where.
    """
    path, free, total = facts["path"], facts["free"], facts["total"]
    if facts["problem"]:
        remedy = "free some space, or name another folder"
        return Finding(what, Status.FAIL, f"{path}: 1 MiB can't be written: {facts['problem']}", remedy, node)
    found = (
        f"{path}: {free / 1e9:,.1f} of {total / 1e9:,.1f} GB free, {needed_bytes / 1e9:,.1f} wanted ({why})"
    )
    if free < needed_bytes:
        return Finding(what, Status.WARN, found, "free some space, or name another folder", node)
    return Finding(what, Status.OK, found, node=node)


def judge_shm(facts: Mapping[str, Any], *, needed_bytes: float, why: str, node: str) -> list[Finding]:
    """Room in /dev/shm."""
    shm = facts["shm"]
    if shm is None:
        remedy = "mount a tmpfs at /dev/shm"
        return [Finding("shm", Status.WARN, "there is no /dev/shm", remedy, node)]
    found = (
        f"{_SHM}: {shm['free'] / 1e9:,.2f} of {shm['total'] / 1e9:,.2f} GB free, "
        f"{needed_bytes / 1e9:,.2f} wanted ({why})"
    )
    if shm["free"] >= needed_bytes:
        return [Finding("shm", Status.OK, found, node=node)]
    gib = -(-int(needed_bytes) // 2**30)
    remedy = f"containers: --shm-size={gib}g (Docker), an emptyDir with medium: Memory (Kubernetes)"
    return [Finding("shm", Status.WARN, found, remedy, node)]


def judge_spill(facts: Mapping[str, Any], *, node: str) -> list[Finding]:
    """Ray's own disk, by the share of it that is used."""
    with contextlib.suppress(KeyError):
        folder = facts["folders"]["ray"]
        used = 1 - folder["free"] / max(1, folder["total"])
        if used > _SPILL_RATIO:
            found = (
                f"{folder['path']} is {used:.0%} full: Ray spills no object to a disk over {_SPILL_RATIO:.0%}"
            )
            return [Finding("spill", Status.WARN, found, "free some space, or `ray start --temp-dir`", node)]
    return []
