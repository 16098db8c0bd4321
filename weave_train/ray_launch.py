"""Ranks as Ray Train workers: on a laptop, or wherever the cluster of a `ray job submit` has room.

    weave-train pretrain --launcher ray --num_ranks 8 ...

Each worker finds its rank in the environment that Ray Train sets, as under torchrun, and runs the same
code: batches and losses are the same. A lost worker ends the group; with `--max_restarts n` a new one is
started, which continues the newest complete checkpoint. SIGTERM reaches the driver alone, which tells an
actor, which every rank asks once a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from weave_data.errors import DeviceError, TrainingError, WeaveError
from weave_data.trainers import RunResult
from weave_train.config import PretrainConfig
from weave_train.overseer import FIXED_EXITS, TOLD_EXITS, stop_this_rank
from weave_train.ray_connect import connect, one_line
from weave_train.train.stop import AGAIN_SECONDS

__all__ = ["run_on_ray"]

_ASK_SECONDS = 1.0
_REPLACED_SECONDS = 600.0
_WAITS_FOR_ROOM = 10
"""Times that Ray Train may start ranks in vain, a minute each."""


def run_on_ray(config: PretrainConfig, *, num_ranks: int) -> RunResult:
    """Train in `num_ranks` Ray Train workers, one GPU each where the cluster has GPUs.

    Args:
        config: Checked; `run_root_dir` must be reachable by every node, or `checkpoint.uri` set.
        num_ranks: World size.

    Raises:
        DeviceError: The cluster can't hold so many ranks.
        WeaveError: As raised by the rank that failed first.
        TrainingError: A rank died without saying why.
    """
    max_restarts = config.max_restarts
    config = config.model_copy(update={"num_ranks": None, "launcher": "local", "max_restarts": 0})
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    connect(log_to_driver=True)
    # Ray Train keeps what ranks report only beside a checkpoint of its own
    outcome: Any = ray.remote(num_cpus=0)(_Outcome).options(scheduling_strategy=_here()).remote()
    with tempfile.TemporaryDirectory(prefix="weave-ray-train-") as scratch:
        use_gpu: bool | None = None

        def start_group() -> None:
            nonlocal use_gpu
            use_gpu = _wait_for_room(num_ranks, as_before=use_gpu)
            trainer = TorchTrainer(
                _rank,
                train_loop_config={"config": config.model_dump(mode="json"), "outcome": outcome},
                scaling_config=ScalingConfig(
                    num_workers=num_ranks,
                    use_gpu=use_gpu,
                    resources_per_worker={"GPU": 1} if use_gpu else {"CPU": 1},
                ),
                torch_config=_torch_config(config, backend="nccl" if use_gpu else "gloo"),
                # nothing of a run lies here: checkpoints and metrics are the run directory's
                run_config=RunConfig(
                    name="weave-train",
                    storage_path=os.environ.get("RAY_TRAIN_STORAGE", scratch),
                    # Ray would start anew what can't go well, too, and wait for room for ever
                    failure_config=FailureConfig(
                        max_failures=0,
                        max_preemption_failures=0,
                        controller_failure_limit=_WAITS_FOR_ROOM,
                    ),
                ),
            )
            _fit(trainer)

        with _passing_sigterm_on(outcome) as is_stopping:
            _run_with_restarts(start_group, max_restarts=max_restarts, is_stopping=is_stopping)
    values: Any = ray.get(outcome.get.remote())
    return RunResult(**values)


@contextlib.contextmanager
def _passing_sigterm_on(outcome: Any) -> Iterator[Callable[[], bool]]:
    """Have ranks save and end on SIGTERM; gives whether it came. Off the main thread nothing is changed."""
    import ray

    noted = threading.Event()
    noted_at = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def tell() -> None:
        ray.get(outcome.stop.remote())

    def note(number: int, _frame: object) -> None:
        nonlocal noted_at
        if not noted.is_set():
            noted_at = time.monotonic()
            noted.set()
            threading.Thread(target=tell, name="weave-ray-stop", daemon=True).start()
        elif time.monotonic() - noted_at >= AGAIN_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield noted.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_with_restarts(
    start_group: Callable[[], None], *, max_restarts: int, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Start a group of ranks, and again where it failed, but not for what stays wrong or is to stop.

    Raises:
        WeaveError: Of the last group.
    """
    for restart in range(max_restarts + 1):
        try:
            return start_group()
        except WeaveError as error:
            if error.exit_code in FIXED_EXITS or restart == max_restarts or is_stopping():
                raise
            sys.stderr.write(f"weave-train: {error}; restart {restart + 1} of {max_restarts}\n")
    raise AssertionError("unreachable")


def _wait_for_room(num_ranks: int, *, as_before: bool | None) -> bool:
    """See `_check_room`; a group that is started anew waits for a node in place of one that was lost.

    Args:
        num_ranks: World size.
        as_before: Whether ranks had GPUs; None: it is the first group.
    """
    import ray

    deadline = time.monotonic() + (0.0 if as_before is None else _REPLACED_SECONDS)
    while True:
        try:
            use_gpu = _check_room(ray.cluster_resources(), num_ranks)
            if as_before in (None, use_gpu):
                return use_gpu
            raise DeviceError("the Ray cluster has lost its GPUs; add nodes that have some")
        except DeviceError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_ASK_SECONDS)


def _fit(trainer: Any) -> None:
    from ray.train.v2._internal.exceptions import (
        WorkerGroupStartupFailedError,
        WorkerGroupStartupTimeoutError,
    )
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _cause(error.worker_failures) from error
    except TrainingFailedError as error:
        cause = getattr(error, "controller_failure", None)
        if isinstance(cause, (WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError)):
            raise DeviceError(
                f"Ray Train could start no ranks in {_WAITS_FOR_ROOM + 1} attempts: {one_line(cause)}; "
                "other work may hold the cluster's CPUs or GPUs (`ray status`): wait for it, or start fewer"
            ) from error
        raise TrainingError(f"Ray Train: {error}") from error


def _here() -> Any:
    """The driver's node, with which all is over anyway; what lies on another could be lost with it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class _Outcome:
    """Carries the first rank's result to the driver, and the driver's request to stop to all."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._is_stopping = False

    def stop(self) -> None:
        self._is_stopping = True

    def is_stopping(self) -> bool:
        return self._is_stopping

    def put(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self) -> dict[str, Any]:
        return self._values


def _rank(options: dict[str, Any]) -> None:
    import ray

    from weave_train.launch import detect_launch
    from weave_train.train.loop import train

    config = PretrainConfig.model_validate(options["config"])
    threading.Thread(target=_heed, args=(options["outcome"],), name="weave-ray-heed", daemon=True).start()
    launch = detect_launch(num_threads=config.num_threads, interface=config.network_interface)
    result = train(config, launch)
    if launch.is_first:
        ray.get(options["outcome"].put.remote(asdict(result)))


def _heed(outcome: Any) -> None:
    """Wait for the driver's request to stop, as long as there is a driver."""
    import ray

    while True:
        try:
            if ray.get(outcome.is_stopping.remote()):
                return stop_this_rank()
        except ray.exceptions.RayError:
            return None  # the run is over
        time.sleep(_ASK_SECONDS)


def _torch_config(config: PretrainConfig, *, backend: str) -> Any:
    """Ray's setup of the process group, over an interface that leads to the first rank's host."""
    from ray.train.torch import TorchConfig

    timeout_s, interface = int(config.watch.collective_timeout_s), config.network_interface
    plain = TorchConfig(backend=backend, timeout_s=timeout_s)

    class Backend(plain.backend_cls):  # type: ignore[name-defined]  # what Ray gives
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            first = worker_group.execute_single(0, _own_address)
            worker_group.execute(_choose_interface, interface, first)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return Backend

    return Config(backend=backend, timeout_s=timeout_s)


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _choose_interface(interface: str | None, first: str) -> None:
    from weave_train.placement import choose_interface

    choose_interface(interface, towards=first)


def _check_room(resources: dict[str, float], num_ranks: int) -> bool:
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if gpus >= num_ranks:
        return True
    if gpus:
        raise DeviceError(
            f"num_ranks: {num_ranks}, but the Ray cluster has {gpus} GPUs; start fewer ranks or add nodes"
        )
    if cpus < num_ranks:
        raise DeviceError(
            f"num_ranks: {num_ranks}, but the Ray cluster has {cpus} CPUs and no GPU; start fewer ranks"
        )
    return False


def _cause(failures: dict[int, Exception]) -> WeaveError:
    """The error of the lowest rank that says why, one with an own exit code first; without Ray's wrapping."""
    ours = list[WeaveError]()
    for rank in sorted(failures):
        error: BaseException | None = failures[rank]
        while error is not None and not isinstance(error, WeaveError):
            error = getattr(error, "cause", None) or error.__cause__
        if error is not None:
            ours.append(error)
    if ours:
        return next((error for error in ours if error.exit_code in TOLD_EXITS), ours[0])
    first = next(iter(failures.items()), None)
    return TrainingError(f"rank {first[0]} died: {first[1]}" if first else "a rank died without a word")
