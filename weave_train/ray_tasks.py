"""Plain functions as tasks of a Ray cluster, a fixed number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from weave_data.errors import DeviceError, IncompleteError
from weave_train.ray_connect import connect

__all__ = ["run_as_tasks"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRIES = 3  # of a task whose node was lost


def run_as_tasks(
    function: Callable[[Item], Result], items: Sequence[Item], *, devices_each: int, most: int | None = None
) -> Iterator[Result]:
    """Call a function of every item wherever the cluster has room.

    Args:
        function: Taken to the workers by name; it may be called again for an item whose node was lost.
        items: Sent to the workers.
        devices_each: GPUs of a call where the cluster has GPUs, else CPUs.
        most: Calls at once; None: as many as there is room for.

    Yields:
        Results as they come.

    Raises:
        DeviceError: No node has room for one call.
        IncompleteError: A worker was lost too often.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    connect(log_to_driver=False)
    resources = _resources(ray.nodes(), devices_each)
    task: Any = ray.remote(function).options(max_retries=_RETRIES, **resources)
    waiting, running = list(items), list[Any]()
    while waiting or running:
        while waiting and (most is None or len(running) < most):
            running.append(task.remote(waiting.pop(0)))
        ready, running = ray.wait(running, num_returns=1)
        try:
            result = ray.get(ready[0])
        except RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except RayError as error:
            raise IncompleteError(f"Ray lost a task: {error}; the same command goes on") from error
        yield result


def _resources(nodes: Sequence[dict[str, Any]], devices: int) -> dict[str, Any]:
    most = {
        name: max((int(node["Resources"].get(name, 0)) for node in nodes if node["Alive"]), default=0)
        for name in ("GPU", "CPU")
    }
    kind = "GPU" if most["GPU"] else "CPU"
    if most[kind] < devices:
        raise DeviceError(
            f"num_ranks: {devices} on one node, but the largest of the Ray cluster has {most[kind]} {kind}s; "
            "train with fewer ranks or add a larger node"
        )
    return {"num_gpus": devices} if kind == "GPU" else {"num_cpus": devices}
