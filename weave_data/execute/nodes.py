"""Asks every node of a Ray cluster the same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weave_data.execute.on_ray import RayExecutor, RayResources

__all__ = ["NodeAnswer", "ask_every_node"]


@dataclass(frozen=True)
class NodeAnswer:
    """One node's answer.

    Attributes:
        node: Its address.
        resources: As Ray counts them.
        value: What the call returned; None when there is a problem.
        problem: Why there is no value, in one line; empty when there is.
    """

    node: str
    resources: dict[str, float]
    value: Any
    problem: str = ""


def ask_every_node(
    address: str | None, call: Callable[[str], Any], argument: str, *, timeout_seconds: float
) -> list[NodeAnswer]:
    """Call a function once on every living node, on no core of it; nodes are asked together.

    Args:
        address: Of the cluster; None: of the job that this process is.
        call: Importable on every node.
        argument: Handed to it.
        timeout_seconds: For all of them.

    Raises:
        SourceError: No cluster answers.
    """
    executor = RayExecutor(RayResources(address or "auto"))
    executor.prepare()
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task: Any = ray.remote(num_cpus=0, max_retries=0)(call)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        waiting = {
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(argument): node
            for node in nodes
        }
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=timeout_seconds)
        answers = [_answer(reference, node, reference in done) for reference, node in waiting.items()]
    finally:
        executor.close()
    return sorted(answers, key=lambda answer: answer.node)


def _answer(reference: Any, node: dict[str, Any], is_done: bool) -> NodeAnswer:
    import ray

    name, resources = node["NodeManagerAddress"], dict(node["Resources"])
    if not is_done:
        return NodeAnswer(name, resources, None, "did not answer in time")
    try:
        return NodeAnswer(name, resources, ray.get(reference))
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return NodeAnswer(name, resources, None, lines[-1].strip() if lines else type(error).__name__)
