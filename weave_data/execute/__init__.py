"""Runs a stage's items somewhere and brings the receipts back.

    contract     `Step` (items, CPU work, then perhaps actors) and the `Executor` protocol
    in_process   one item after another, here: tests, debugging, finished builds
    on_ray       Ray Data: CPU tasks feeding a pool of actors, on this machine or a cluster
    nodes        the same question to every node of a cluster
    job_spec     what a submitted build sends along, and that no secret is in it
    jobs         a cluster's job server: submit, follow, stop, exit code

Executors decide where and when, never what: any order, any worker, twice if need be, gives the same
files, because every file is a pure function of its inputs and the first writer wins.
"""

from weave_data.execute.contract import ActorPool, Executor, Step
from weave_data.execute.in_process import InProcessExecutor
from weave_data.execute.job_spec import JobSpec, make_job_spec, read_runtime_env
from weave_data.execute.jobs import Job, JobServer, new_job_id
from weave_data.execute.nodes import NodeAnswer, ask_every_node
from weave_data.execute.on_ray import RayExecutor, RayResources

__all__ = [
    "ActorPool",
    "Executor",
    "InProcessExecutor",
    "Job",
    "JobServer",
    "JobSpec",
    "NodeAnswer",
    "RayExecutor",
    "RayResources",
    "Step",
    "ask_every_node",
    "make_job_spec",
    "new_job_id",
    "read_runtime_env",
]
