"""Executors run every item once, wherever, and bring back receipts or our own errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from weave_data.errors import DeviceError, IncompleteError, SourceError
from weave_data.execute import ActorPool, Executor, InProcessExecutor, RayExecutor, RayResources, Step, on_ray

NUM_ITEMS = 40


@dataclass(frozen=True)
class Square:
    """CPU work; refuses one number."""

    refused: int | None = None

    def __call__(self, number: int) -> tuple[int, int]:
        if number == self.refused:
            raise SourceError(f"number {number} refused")
        return number * number, os.getpid()


@dataclass(frozen=True)
class AddDevice:
    """Actor work; one process holds it for the whole step."""

    is_broken: bool = False

    def __call__(self, device: str) -> Callable[[tuple[int, int]], tuple[int, int, str, int]]:
        if self.is_broken:
            raise DeviceError("no weights here")
        return lambda result: (*result, device, os.getpid())


@dataclass(frozen=True)
class Die:
    """Actor work that a number kills every time, as the kernel does when memory is short."""

    number: int

    def __call__(self, device: str) -> Callable[[tuple[int, int]], tuple[int, int]]:
        def work(result: tuple[int, int]) -> tuple[int, int]:
            if result[0] == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return work


class Unloadable:
    """An actor whose constructor raises what is none of ours."""

    def __call__(self, device: str) -> Callable[[tuple[int, int]], tuple[int, int]]:
        raise RuntimeError("CUDA out of memory, as it were")


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[RayExecutor]:
    executor = RayExecutor(RayResources(num_cpus=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # workers import this module
        yield executor
        executor.close()


@pytest.fixture(params=["in_process", pytest.param("ray", marks=pytest.mark.process)])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        return request.getfixturevalue("ray_executor")
    return InProcessExecutor()


def test_every_item_comes_back_exactly_once(executor: Executor) -> None:
    results = list(executor.run(Step("square", range(NUM_ITEMS), Square())))
    assert sorted(square for square, _ in results) == [number * number for number in range(NUM_ITEMS)]


def test_an_actor_sees_every_result_and_is_built_once(executor: Executor) -> None:
    step = Step("square", range(NUM_ITEMS), Square(), ActorPool(AddDevice()))
    results = list(executor.run(step))
    assert sorted(result[0] for result in results) == [number * number for number in range(NUM_ITEMS)]
    assert {result[2] for result in results} == {"cpu"}
    assert len({result[3] for result in results}) == 1


def test_an_error_raised_on_purpose_arrives_as_it_was_raised(executor: Executor) -> None:
    with pytest.raises(SourceError, match="^number 7 refused$"):
        list(executor.run(Step("square", range(NUM_ITEMS), Square(refused=7))))


def test_an_actor_that_can_not_start_says_why(executor: Executor) -> None:
    with pytest.raises(DeviceError, match="no weights here"):
        list(executor.run(Step("square", range(3), Square(), ActorPool(AddDevice(is_broken=True)))))


def test_no_items_start_nothing() -> None:
    executor = RayExecutor(RayResources(address="10.255.255.1:1"))
    assert list(executor.run(Step("square", [], Square()))) == []


@pytest.mark.process
def test_more_actors_than_cores_leave_room_for_the_tasks_that_feed_them(ray_executor: RayExecutor) -> None:
    step = Step("square", range(NUM_ITEMS), Square(), ActorPool(AddDevice(), num_actors=3))
    assert len(list(ray_executor.run(step))) == NUM_ITEMS


@pytest.mark.process
def test_ray_work_runs_in_other_processes(ray_executor: RayExecutor) -> None:
    results = list(ray_executor.run(Step("square", range(NUM_ITEMS), Square())))
    assert os.getpid() not in {process_id for _, process_id in results}


@pytest.mark.process
@pytest.mark.timeout(900)
def test_an_actor_that_the_same_item_kills_every_time_ends_the_step(
    ray_executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "MAX_RETRIES", 1)
    with pytest.raises(
        IncompleteError, match=r"^embed: a worker died 2 times.*more memory.*same command again"
    ):
        list(ray_executor.run(Step("embed", range(3), Square(), ActorPool(Die(4)))))
    assert len(list(ray_executor.run(Step("embed", range(3), Square(), ActorPool(Die(5)))))) == 3


@pytest.mark.process
def test_an_actor_that_can_not_be_made_is_no_worker_that_died(ray_executor: RayExecutor) -> None:
    with pytest.raises(DeviceError, match=r"^embed: a worker .* can't start .*CUDA out of memory"):
        list(ray_executor.run(Step("embed", range(3), Square(), ActorPool(Unloadable()))))


def test_ray_data_keeps_the_limits_of_actors() -> None:
    from ray.data import DataContext
    from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

    class Dataset:
        def map(self, _work: object, **arguments: object) -> dict[str, object]:
            named = {"fn_constructor_args", "compute"}
            return {name: value for name, value in arguments.items() if name not in named}

    given = on_ray._behind(Dataset(), ActorPool(AddDevice()))
    used = ActorPoolMapOperator._apply_default_remote_args(given, DataContext.get_current())
    assert (used["max_restarts"], used["max_task_retries"]) == (10, 10)


def test_what_ray_gives_up_on_is_told_apart() -> None:
    from ray import exceptions

    def said(error: Exception) -> str:
        return str(on_ray._given_up("decode", error))

    assert "a worker died 11 times" in said(exceptions.WorkerCrashedError())
    assert "a worker died 11 times" in said(exceptions.ActorDiedError())
    unmade = exceptions.RayTaskError("make", "Traceback\nRuntimeError: CUDA out of memory", RuntimeError())
    assert "can't start (RuntimeError: CUDA out of memory)" in said(exceptions.ActorDiedError(unmade))
    assert "no room for results" in said(exceptions.OutOfDiskError("full"))
    lost = said(exceptions.RuntimeEnvSetupError("no such wheel"))
    assert "Ray gave up (RuntimeEnvSetupError: " in lost
    assert "memory" not in lost


def test_a_cluster_of_other_versions_or_with_another_token_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    from weave_data.doctor import Questions, ask_over_ray

    failure: Exception = RuntimeError(
        "Version mismatch: The cluster was started with:\n    Ray: 2.1\nThis process with:\n    Ray: 2.2\n"
    )

    def init(**_: object) -> None:
        raise failure

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(SourceError, match=r"has other versions .*Ray: 2\.1 .*Ray: 2\.2\); run one image"):
        RayExecutor(RayResources("10.0.0.1:6379")).prepare()
    (found,) = ask_over_ray(Questions(packages=()), "10.0.0.1:6379").findings
    assert (found.check, found.status.value) == ("nodes", "fail")
    assert "Ray: 2.1" in found.found
    assert "on every node" in found.remedy
    failure = AuthenticationError("Token is wrong")
    (found,) = ask_over_ray(Questions(packages=()), "10.0.0.1:6379").findings
    assert "refuses us (Token is wrong" in found.found
    assert "RAY_AUTH_TOKEN" in found.remedy


@pytest.mark.process
def test_gpus_that_are_not_there_are_an_error_before_any_work(ray_executor: RayExecutor) -> None:
    list(ray_executor.run(Step("square", range(1), Square())))  # Ray is up, without GPUs
    greedy = RayExecutor(RayResources(num_gpus=64))
    with pytest.raises(DeviceError, match="execution.gpus: 64 asked for"):
        greedy.prepare()


@pytest.mark.process
def test_a_private_ray_is_closed_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
from weave_data.execute import RayExecutor, RayResources, Step
print(list(RayExecutor(RayResources(num_cpus=1)).run(Step("str", [1], str))))
import ray
address = ray.get_runtime_context().gcs_address
stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
ask = f"import ray; ray.init(address={address!r}); print('in')"
for env in (stranger | {"RAY_AUTH_MODE": "disabled"}, dict(os.environ)):
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True)
    print(done.returncode == 0, done.stdout.strip())
"""
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["False ", "True in"], done.stderr
    assert list(tmp_path.iterdir()) == []  # no token is left behind


def test_a_private_ray_that_starts_too_slowly_is_said_and_other_failures_are_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def failing(message: str) -> RayExecutor:
        def init(**_: object) -> None:
            raise Exception(message)

        monkeypatch.setattr(ray, "init", init)
        return RayExecutor(RayResources(num_cpus=1))

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(IncompleteError, match="did not start within its 30 s.*run the same command again"):
        list(failing("The current node timed out during startup. This").run(Step("s", [1], Square())))
    with pytest.raises(Exception, match="something else"):
        list(failing("something else").run(Step("s", [1], Square())))
