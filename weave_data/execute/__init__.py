"""Runs a stage's items somewhere and brings the receipts back.

    contract     `Step` (items, CPU work, then perhaps actors) and the `Executor` protocol
    in_process   one item after another, here: tests, debugging, finished builds
    on_ray       Ray Data: CPU tasks feeding a pool of actors, on this machine or a cluster
    nodes        the same question to every node of a cluster

Executors decide where and when, never what: any order, any worker, twice if need be, gives the same
files, because every file is a pure function of its inputs and the first writer wins.
"""

from weave_data.execute.contract import ActorPool, Executor, Step
from weave_data.execute.in_process import InProcessExecutor
from weave_data.execute.nodes import NodeAnswer, ask_every_node
from weave_data.execute.on_ray import RayExecutor, RayResources

__all__ = [
    "ActorPool",
    "Executor",
    "InProcessExecutor",
    "NodeAnswer",
    "RayExecutor",
    "RayResources",
    "Step",
    "ask_every_node",
]
