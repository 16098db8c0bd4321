"""What a check found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from weave_data.errors import SourceError, WeaveError

__all__ = ["Finding", "Report", "Status", "of_error", "of_nodes"]


class Status(StrEnum):
    """`warn` costs time or may fail later; `fail` ends the run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Name of the check, `credentials`, `scratch`, ...
        status: How it went.
        found: What was there, with values.
        remedy: What to do; empty where nothing is to be done.
        node: Where; empty for what concerns no node in particular.
    """

    check: str
    status: Status
    found: str
    remedy: str = ""
    node: str = ""


@dataclass(frozen=True)
class Report:
    """Findings in the order they were made."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0, or that of `SourceError` where a check failed."""
        return SourceError.exit_code if self.count(Status.FAIL) else 0

    def count(self, status: Status) -> int:
        """Number of findings of a status."""
        return sum(finding.status is status for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """`{"ok": bool, "findings": [{"check", "status", "node", "found", "remedy"}]}`."""
        rows = [
            {
                "check": finding.check,
                "status": finding.status.value,
                "node": finding.node,
                "found": finding.found,
                "remedy": finding.remedy,
            }
            for finding in self.findings
        ]
        return {"ok": self.exit_code == 0, "findings": rows}


def of_error(check: str, error: WeaveError | str, *, node: str = "") -> Finding:
    """A failed check from an error message, whose last clause says what to do."""
    found, separator, remedy = str(error).rpartition("; ")
    if not separator:
        found, remedy = str(error), "see docs/troubleshooting.md"
    return Finding(check, Status.FAIL, found, remedy, node)


def of_nodes(findings: Iterable[Finding], names: Sequence[str]) -> list[Finding]:
    """Say once what is the same on several nodes.

    Args:
        findings: Of all nodes, each with its node.
        names: Of all nodes, in order.
    """
    where: dict[Finding, list[str]] = {}
    for finding in findings:
        where.setdefault(replace(finding, node=""), []).append(finding.node)
    return [replace(finding, node=_named(nodes, names)) for finding, nodes in where.items()]


def _named(nodes: Sequence[str], names: Sequence[str]) -> str:
    if len(names) > 1 and len(nodes) == len(names):
        return f"all {len(names)}"
    shown = ", ".join(nodes[:4])
    return shown if len(nodes) <= 4 else f"{shown} and {len(nodes) - 4} more"
