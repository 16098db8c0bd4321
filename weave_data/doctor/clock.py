"""Clocks: of this machine against the store's Date header, of the nodes against this machine."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from weave_data.doctor.finding import Finding, Status

__all__ = ["judge_nodes", "judge_store"]

REFUSED_SECONDS = 900
"""S3 refuses requests that are signed further from its own time."""

WARN_SECONDS = 30.0
_REMEDY = "let chrony or systemd-timesyncd set the clock"


def judge_store(date: str, *, before: float, after: float) -> Finding:
    """Compare.

    Args:
        date: The reply's Date header.
        before: Seconds since 1970 when the request was sent.
        after: When the reply was there.
    """
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return Finding(
            "clock", Status.WARN, f"the store's Date header is {date!r}", "check the proxies before it"
        )
    ours = min(max(theirs, before - 1), after)  # the header is cut to a second
    behind = theirs - ours
    found = f"{abs(behind):.0f} s {'behind' if behind > 0 else 'before'} the store's ({date})"
    if abs(behind) >= REFUSED_SECONDS:
        found += f"; requests {REFUSED_SECONDS} s off are refused (RequestTimeTooSkewed)"
        return Finding("clock", Status.FAIL, found, _REMEDY)
    if abs(behind) >= WARN_SECONDS:
        return Finding("clock", Status.WARN, found, _REMEDY)
    return Finding("clock", Status.OK, f"as the store's, to {max(1.0, after - before):.0f} s")


def judge_nodes(times: Mapping[str, float], *, before: float, after: float) -> list[Finding]:
    """Nodes whose clock lies outside of the time in which they were asked."""
    findings = []
    for node, at in times.items():
        off = max(before - at, at - after, 0.0)
        if off >= WARN_SECONDS:
            status = Status.FAIL if off >= REFUSED_SECONDS else Status.WARN
            findings.append(Finding("clock", status, f"{off:.0f} s off this machine's", _REMEDY, node))
    return findings
