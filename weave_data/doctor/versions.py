"""Versions of interpreter, packages and of this project's own code: equal on all nodes, or bytes differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from weave_data.doctor.finding import Finding, Status

__all__ = ["look", "judge"]

_OWN = ("weave_data", "weave_train")
_ABSENT = "absent"


def look(packages: Sequence[str]) -> dict[str, str]:
    """Versions by name; `absent` for a package that is not installed."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "code": _code()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = _ABSENT
    return found


def _code() -> str:
    """First digits of a sha256 over our own modules: two checkouts may have one version number."""
    digest = hashlib.sha256()
    for package in _OWN:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def judge(nodes: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """One finding for each name that differs or is absent, or one for all.

    Args:
        nodes: What each node's `look` gave.
    """
    findings = []
    names = list(next(iter(nodes.values())))
    for name in names:
        by_value: dict[str, list[str]] = {}
        for node, found in nodes.items():
            by_value.setdefault(found[name], []).append(node)
        if len(by_value) > 1 or _ABSENT in by_value:
            findings.append(_unequal(name, by_value))
    if findings:
        return findings
    first = next(iter(nodes.values()))
    shown = ", ".join(f"{name} {value}" for name, value in first.items())
    return [Finding("versions", Status.OK, shown, node=f"all {len(nodes)}" if len(nodes) > 1 else "")]


def _unequal(name: str, by_value: Mapping[str, Sequence[str]]) -> Finding:
    shown = "; ".join(f"{value} on {', '.join(nodes[:4])}" for value, nodes in by_value.items())
    if name == "code":
        remedy = "run the same checkout of this project everywhere: one image, or one --working-dir"
    elif name in ("python", "machine"):
        remedy = "run one image on all nodes"
    else:
        remedy = f"pip install -c constraints.txt {name} on every node"
    return Finding("versions", Status.FAIL, f"{name}: {shown}", remedy)
