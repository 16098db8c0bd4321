"""What all nodes together say, of builds and of training runs alike."""

from __future__ import annotations

from weave_data.doctor import clock, versions
from weave_data.doctor.finding import Finding, of_error, of_nodes
from weave_data.doctor.nodes import NodeReply

__all__ = ["judge_all_nodes"]


def judge_all_nodes(reply: NodeReply) -> list[Finding]:
    """Versions, clocks, and stores that a node can't read."""
    if not reply.nodes:
        return []
    findings = versions.judge({node: facts["versions"] for node, facts in reply.nodes.items()})
    times = {node: facts["time"] for node, facts in reply.nodes.items()}
    findings += clock.judge_nodes(times, before=reply.before, after=reply.after)
    if len(reply.nodes) > 1:
        unreadable = [
            of_error("store of nodes", problem, node=node)
            for node, facts in reply.nodes.items()
            for problem in facts["readable"].values()
            if problem
        ]
        findings += of_nodes(unreadable, list(reply.nodes))
    return findings
