"""A doctor's report on the terminal, or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from weave_data.commands.terminal import out, plain, print_json

if TYPE_CHECKING:
    from weave_data.doctor import Report

__all__ = ["print_report"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def print_report(report: Report, *, as_json: bool) -> None:
    """Print findings, and what they come to."""
    from weave_data.doctor import Status

    if as_json:
        print_json(report.to_json())
        return
    table = Table()
    for name in ("status", "check", "node", "found", "what to do"):
        table.add_column(name, overflow="fold")  # a key or an address is never cut off
    for finding in report.findings:
        status = plain(finding.status.value, style=_STYLES[finding.status.value])
        cells = [plain(value) for value in (finding.check, finding.node, finding.found, finding.remedy)]
        table.add_row(status, *cells)
    out.print(table, soft_wrap=False)
    failed, warned = report.count(Status.FAIL), report.count(Status.WARN)
    out.print(f"{len(report.findings)} checks: {failed} failed, {warned} with a warning")
