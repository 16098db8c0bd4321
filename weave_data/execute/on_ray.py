"""Ray Data underneath a step: one dataset row per item, CPU tasks, then a pool of actors.

Rows, not blocks, are the unit (Ray splits and merges blocks at will). Items and results travel as
pickled bytes in one binary column. Errors raised on purpose travel as results, so that the driver
sees our own exception and not a wrapped one.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weave_data.errors import DeviceError, IncompleteError, SourceError, WeaveError
from weave_data.execute.contract import ActorPool, Step

if TYPE_CHECKING:
    import ray.data

__all__ = ["RayExecutor", "RayResources"]

COLUMN = "payload"
_STARTS_TOO_SLOWLY = "timed out during startup"
_OTHER_VERSIONS = "Version mismatch"
_AUTH_LOGGER = "ray._private.authentication.authentication_token_setup"
MAX_BLOCKS = 4096  # a block per item melts the driver at hundreds of thousands of items
TASK_CORES = 0.99
ACTOR_CORES = 0.0001
"""An actor lives beside the CPU tasks. With a GPU it needs no core, so that it finds nodes which have none
for tasks; without one it needs a trace, which keeps it off such nodes. Tasks leave as much of a core as a
hundred actors take: if actors cost tasks a core, a small machine could have none left to feed them."""

MAX_RETRIES = 10
"""Of a task whose worker or node died, be it an actor's, and of an actor's start. Ray Data would repeat for
ever what kills its worker every time."""

LOGICAL_GPUS = "WEAVE_LOGICAL_GPUS"


@dataclass(frozen=True)
class RayResources:
    """Where to run: a private local Ray (`address=None`) or a cluster, and how much of it."""

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: float = 0.0


class RayExecutor:
    """Runs steps on Ray Data; Ray starts at the first step and only stops if it was ours.

    A Ray that this process is connected to already is used as it is.
    """

    def __init__(self, resources: RayResources) -> None:
        self._resources = resources
        self._is_started = False
        self._is_ours = False

    def prepare(self) -> None:
        """Start Ray early when GPUs are asked for or a cluster is named; see `Executor.prepare`."""
        if self._resources.num_gpus or self._resources.address:
            self._start()

    def num_cores(self) -> int:
        """See `Executor.num_cores`; a head without CPUs, or machines not yet started, count for nothing."""
        import ray

        self._start()
        return max(1, int(ray.cluster_resources().get("CPU", 0.0)))

    def run(self, step: Step) -> Iterator[Any]:
        """See `Executor.run`."""
        if not step.items:
            return
        self._start()
        with _explaining_lost_workers(step.name):
            for row in self._dataset(step).iter_rows():
                result = pickle.loads(row[COLUMN])  # noqa: S301 (our own bytes, from our own workers)
                if isinstance(result, WeaveError):
                    raise result
                yield result

    def close(self) -> None:
        """Shut a private Ray down; leave a cluster alone."""
        if self._is_ours:
            import ray

            ray.shutdown()
        self._is_started = self._is_ours = False

    def _start(self) -> None:
        import ray

        if self._is_started:
            return
        if not ray.is_initialized():
            self._connect()
        self._is_started = True
        _check_gpus(self._resources.num_gpus)

    def _connect(self) -> None:
        import ray
        from ray.exceptions import AuthenticationError

        os.environ.setdefault("RAY_task_oom_retries", str(MAX_RETRIES))  # for ever otherwise
        address = self._resources.address or _job_address()
        arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if address is None:
            arguments |= _private_arguments(self._resources)
        else:
            arguments["address"] = address
        try:
            with _own_signals():
                ray.init(**arguments)
        except ConnectionError as error:
            raise SourceError(
                f"execution.ray_address: no Ray cluster answers at {address!r} ({error}); "
                "start one with `ray start --head`, or leave it null for a private one"
            ) from error
        except AuthenticationError as error:
            raise SourceError(
                f"execution.ray_address: the Ray cluster at {address!r} refuses us ({_one_line(error)}); set "
                "RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or "
                "~/.ray/auth_token)"
            ) from error
        except Exception as error:  # Ray has no classes for these
            if _OTHER_VERSIONS in str(error):
                raise SourceError(
                    f"execution.ray_address: the Ray cluster at {address!r} has other versions than this "
                    f"process ({_one_line(error)}); run one image, or the same Python and constraints.txt, "
                    "on every node and here"
                ) from error
            if _STARTS_TOO_SLOWLY not in str(error):
                raise
            raise IncompleteError(
                "a private Ray did not start within its 30 s; the machine is overloaded or out of memory: "
                "run the same command again when it is not, or with execution.in_process: true"
            ) from error
        self._is_ours = True

    def _dataset(self, step: Step) -> ray.data.Dataset:
        import ray.data
        from ray.util.annotations import RayDeprecationWarning

        _quieten()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        context.execution_options.preserve_order = False
        rows = [{COLUMN: pickle.dumps(item)} for item in step.items]
        source = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
        cores = 1 if step.then is None else TASK_CORES
        with warnings.catch_warnings():
            # limits of retries have no other way in than the arguments that Ray means to name one by one
            warnings.simplefilter("ignore", RayDeprecationWarning)
            worked = source.map(_Work(step.work), num_cpus=cores, max_retries=MAX_RETRIES)
            return worked if step.then is None else _behind(worked, step.then)


def _behind(dataset: ray.data.Dataset, pool: ActorPool) -> ray.data.Dataset:
    import ray.data

    return dataset.map(
        _Actor,  # type: ignore[arg-type]
        fn_constructor_args=(pool.factory, pool.device),
        compute=ray.data.ActorPoolStrategy(size=pool.num_actors),
        num_gpus=pool.num_gpus_per_actor or None,
        num_cpus=0 if pool.num_gpus_per_actor else ACTOR_CORES,
        max_restarts=MAX_RETRIES,
        max_task_retries=MAX_RETRIES,
    )


@contextmanager
def _explaining_lost_workers(step: str) -> Iterator[None]:
    """Turn what Ray itself gives up on into our own error; what a task raised itself passes through."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        raise _given_up(step, error) from error


def _given_up(step: str, error: Exception) -> WeaveError:
    """A start that fails, workers that die, results that are lost with a node, and the rest."""
    from ray import exceptions

    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    name, again = type(error).__name__, "then run the same command again: what is committed stays"
    if isinstance(error, exceptions.RayActorError) and error.actor_init_failed:
        return DeviceError(
            f"{step}: a worker that holds the model can't start ({lines[-1]}); see `weave-data doctor`, free "
            f"the GPU's memory or mend the installation on the nodes, {again}"
        )
    deaths = exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.RayActorError
    nodes = exceptions.NodeDiedError, exceptions.LocalRayletDiedError
    if isinstance(error, (*deaths, *nodes)):
        return IncompleteError(
            f"{step}: a worker died {MAX_RETRIES + 1} times, over the same work or as it started "
            f"({name}: {lines[0]}); give each task more memory (fewer execution.num_cpus, larger nodes, a "
            f"smaller execution.clip_memory_bytes or batch_size), {again}"
        )
    if isinstance(error, (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError)):
        return IncompleteError(
            f"{step}: Ray has no room for results ({name}: {lines[0]}); give its nodes more disk and shared "
            f"memory, {again}"
        )
    return IncompleteError(
        f"{step}: Ray gave up ({name}: {lines[0]}); see `ray status` and the logs of its nodes, {again}"
    )


class _Work:
    """CPU side of a row. A callable object, so that Ray pickles the work once, not per row."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self.__name__ = type(work).__name__

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {COLUMN: pickle.dumps(_attempt(self._work, pickle.loads(row[COLUMN])))}  # noqa: S301


class _Actor:
    """Model side of a row."""

    def __init__(self, factory: Callable[[str], Callable[[Any], Any]], device: str) -> None:
        self._failure: WeaveError | None = None
        try:
            self._work = factory(_device_here(device))
        except WeaveError as error:
            self._failure = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = pickle.loads(row[COLUMN])  # noqa: S301
        if not isinstance(result, WeaveError):
            result = self._failure or _attempt(self._work, result)
        return {COLUMN: pickle.dumps(result)}


def _attempt(work: Callable[[Any], Any], item: Any) -> Any:
    try:
        return work(item)
    except WeaveError as error:
        return error


def _device_here(device: str) -> str:
    """`cuda` only where torch sees one; a logical GPU without hardware must be asked for by name."""
    if device != "cuda":
        return device
    import torch

    if torch.cuda.is_available():
        return device
    if os.environ.get(LOGICAL_GPUS) == "1":
        return "cpu"
    raise DeviceError(
        "Ray gave this actor a GPU, but torch sees none here; install a CUDA build of torch on every node, "
        f"or set {LOGICAL_GPUS}=1 to exercise the actor pool on CPUs"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")


def _quieten() -> None:
    """Leave the terminal to our own progress; Ray keeps its own log files."""
    from ray.data._internal.logging import configure_logging

    configure_logging()  # or the first execution would undo what follows
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep a SIGTERM handler that stands: Ray would put one in its place that exits at once."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _job_address() -> str | None:
    """Address of the cluster this process is a job of (`ray job submit` sets both variables)."""
    return os.environ.get("RAY_ADDRESS") if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else None


def _private_arguments(resources: RayResources) -> dict[str, Any]:
    if "RAY_AUTH_MODE" not in os.environ:
        # a private Ray listens on all addresses of the machine, and asks for a token unless told otherwise;
        # without one it would store its own in ~/.ray
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        logging.getLogger(_AUTH_LOGGER).setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    arguments: dict[str, Any] = {
        "address": "local",
        "include_dashboard": False,
        "num_cpus": resources.num_cpus,
    }
    if resources.num_gpus and os.environ.get(LOGICAL_GPUS) == "1":
        arguments["num_gpus"] = max(1, round(resources.num_gpus))
    return arguments


def _check_gpus(num_gpus: float) -> None:
    import ray

    available = ray.cluster_resources().get("GPU", 0.0)
    if num_gpus > available:
        raise DeviceError(
            f"execution.gpus: {num_gpus:g} asked for, Ray sees {available:g} in the cluster; "
            "lower it, use 0 to embed on CPUs, or add GPU nodes"
        )
