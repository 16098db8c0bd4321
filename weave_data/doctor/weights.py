"""Weights that a stage or a run will load: are they here, and the same everywhere. Nothing is fetched."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.doctor.finding import Finding, Status, of_nodes
from weave_data.doctor.questions import WeightQuestion

__all__ = ["judge", "look"]

_SAMPLE_BYTES = 1 << 20


def look(question: WeightQuestion) -> dict[str, Any]:
    """What is here.

    Returns:
        `path` ("" when nothing is), `missing` (globs that no file matches), `bytes`, `digest` of sizes and
        samples of the files, `is_offline` (the hub may not be asked).
    """
    path = _place(question)
    found: dict[str, Any] = {"path": "", "missing": [], "bytes": 0, "digest": "", "is_offline": _is_offline()}
    if path is None:
        return found
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    names = [item.relative_to(path).as_posix() if item != path else item.name for item in files]
    found["missing"] = [
        " or ".join(globs)
        for globs in question.patterns
        if not any(fnmatch.fnmatch(name, glob) for name in names for glob in globs)
    ]
    found |= {"path": str(path), "bytes": sum(item.stat().st_size for item in files)}
    if question.kind in ("file", "directory"):
        found["digest"] = _digest(files)
    return found


def _place(question: WeightQuestion) -> Path | None:
    match question.kind:
        case "file":
            path = Path(question.name)
            return path if path.is_file() else None
        case "directory":
            path = Path(question.name)
            return path if path.is_dir() else None
        case "package":
            spec = importlib.util.find_spec(question.name)
            return Path(spec.origin) if spec is not None and spec.origin is not None else None
        case "url":
            path = Path("~/.cache/clip").expanduser() / question.name.rpartition("/")[2]
            return path if path.is_file() else None
        case "hub":
            return _snapshot(question.name)


def _snapshot(repository: str) -> Path | None:
    """Newest snapshot of the hub's cache that holds a whole file."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    found = [item for item in folder.glob("*") if any(file.is_file() for file in item.rglob("*"))]
    return max(found, key=lambda item: item.stat().st_mtime, default=None)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _digest(files: Sequence[Path]) -> str:
    """Of names, sizes, first and last MiB: a different model, or half a copy, differs in these."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def judge(question: WeightQuestion, nodes: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Findings about one set of weights, on every node."""
    each = [_on_node(question, found, node) for node, found in nodes.items()]
    digests = {found["digest"] for found in nodes.values() if found["path"]}
    findings = of_nodes(each, list(nodes))
    if len(digests) > 1:
        shown = "; ".join(f"{found['digest']} on {node}" for node, found in nodes.items() if found["path"])
        findings.append(
            Finding(
                "weights",
                Status.FAIL,
                f"{question.what}: {question.name} is not the same on all nodes: {shown}",
                "copy one and the same to every node",
            )
        )
    return findings


def _on_node(question: WeightQuestion, found: Mapping[str, Any], node: str) -> Finding:
    named = f"{question.what}: {question.name}"
    missing = ", ".join(found["missing"])
    if found["path"] and not missing:
        return Finding("weights", Status.OK, f"{named}, {found['bytes'] / 1e6:,.1f} MB", node=node)
    if question.kind in ("hub", "url"):
        lacking = f"not in the cache of this node ({missing})" if missing else "not in the cache of this node"
        if found["is_offline"]:
            remedy = (
                "download it where the hub is reachable and set HF_HOME to a copy, or unset HF_HUB_OFFLINE"
            )
            return Finding("weights", Status.FAIL, f"{named} is {lacking}; the hub is off", remedy, node)
        remedy = "download it once before the run, or every node does so when it starts"
        return Finding("weights", Status.WARN, f"{named} is {lacking}", remedy, node)
    if question.kind == "package":
        remedy = "pip install videoweave[demo] on every node"
        return Finding("weights", Status.FAIL, f"{named} is not installed", remedy, node)
    reason = f"has no {missing}" if found["path"] else "is not there"
    remedy = "copy it to the same path on every node, or put it on a shared file system"
    return Finding("weights", Status.FAIL, f"{named} {reason}", remedy, node)
