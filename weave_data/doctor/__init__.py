"""Is everything there that a build needs? Asked before it starts, of the store and of every node.

    configuration -> questions -> nodes (here, Ray, ssh) -> facts -+
                  -> store: credentials, endpoint, probe, clock ---+-> findings -> report

    finding      one thing that was looked at: check, status, what was found, what to do
    nodes        asks every node the same questions: in this process, by Ray tasks, over ssh
    node         answers them; `python -m weave_data.doctor.node` for ssh
    store        lists, writes, overwrites conditionally, reads and removes one small object
    s3           credentials and their expiry, addressing style, encryption
    clock        against the store's Date header, and of the nodes against each other
    versions, codecs, weights, devices, disk, network
                 each what it looks at on a node, and what it makes of all nodes' answers
    build        all of it for the configuration of a build

Nothing is downloaded and nothing stays behind.
"""

from weave_data.doctor.finding import Finding, Report, Status, of_error
from weave_data.doctor.nodes import NodeReply, ask_here, ask_over_ray, ask_over_ssh
from weave_data.doctor.questions import Questions, WeightQuestion

__all__ = [
    "Finding",
    "NodeReply",
    "Questions",
    "Report",
    "Status",
    "WeightQuestion",
    "ask_here",
    "ask_over_ray",
    "ask_over_ssh",
    "of_error",
]
