"""Which failures of a group of Ray workers are worth another start, and whose error is told."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from weave_data.errors import (
    ConfigError,
    DeviceError,
    SourceError,
    StoreError,
    TrainingError,
    VerificationError,
    WeaveError,
)
from weave_train import ray_launch
from weave_train.ray_connect import connect
from weave_train.ray_launch import _cause, _run_with_restarts, _wait_for_room
from weave_train.train.agreement import PeerError


class Groups:
    """Groups of ranks that fail one after another with these errors, then end well."""

    def __init__(self, *errors: WeaveError) -> None:
        self._errors: Iterator[WeaveError] = iter(errors)
        self.num_started = 0

    def start(self) -> None:
        self.num_started += 1
        for error in self._errors:
            raise error


@pytest.mark.parametrize(
    "error",
    [ConfigError("resume: never"), StoreError("refused"), DeviceError("no GPU"), PeerError("x", exit_code=3)],
    ids=lambda error: type(error).__name__,
)
def test_what_stays_wrong_is_not_started_anew(error: WeaveError) -> None:
    groups = Groups(error)
    with pytest.raises(type(error)):
        _run_with_restarts(groups.start, max_restarts=3)
    assert groups.num_started == 1


def test_other_failures_are_started_anew_as_often_as_asked(capsys) -> None:
    groups = Groups(TrainingError("rank 1 died"), VerificationError("damaged"))
    _run_with_restarts(groups.start, max_restarts=2)
    assert groups.num_started == 3
    assert "rank 1 died; restart 1 of 2" in capsys.readouterr().err
    groups = Groups(*[TrainingError(f"died {time}") for time in range(5)])
    with pytest.raises(TrainingError, match="died 2"):
        _run_with_restarts(groups.start, max_restarts=2)
    assert groups.num_started == 3


def test_a_group_that_is_started_anew_waits_for_a_node_in_place_of_the_lost_one(monkeypatch) -> None:
    import ray

    seen = iter([{"GPU": 1.0}, {"CPU": 8.0}, {"GPU": 2.0}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: next(seen))
    monkeypatch.setattr(ray_launch, "_ASK_SECONDS", 0.0)
    with pytest.raises(DeviceError, match="the Ray cluster has 1 GPUs"):
        _wait_for_room(2, as_before=None)
    assert _wait_for_room(2, as_before=True) is True
    monkeypatch.setattr(ray_launch, "_REPLACED_SECONDS", 0.0)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    with pytest.raises(DeviceError, match="has lost its GPUs"):
        _wait_for_room(2, as_before=True)


def test_a_second_sigterm_some_seconds_later_ends_the_driver() -> None:
    program = """
import os, signal
from types import SimpleNamespace
import ray
from weave_train import ray_launch
ray.get = lambda _: None
ray_launch.AGAIN_SECONDS = 0.0
outcome = SimpleNamespace(stop=SimpleNamespace(remote=lambda: None))
with ray_launch._passing_sigterm_on(outcome) as is_stopping:
    os.kill(os.getpid(), signal.SIGTERM)
    print(is_stopping(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ConnectionError("nobody"), "no Ray cluster answers at '10.0.0.1:6379' \\(nobody\\)"),
        (RuntimeError("Version mismatch: 3.11\n3.12"), "has other versions .*3.11 3.12"),
    ],
)
def test_a_cluster_that_can_not_be_had_is_one_line(failure, message, monkeypatch) -> None:
    import ray

    def init(**_: object) -> None:
        raise failure

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(SourceError, match=message):
        connect(log_to_driver=False)


def test_an_error_with_a_code_of_its_own_is_told_before_what_followed_it() -> None:
    wrapped = RuntimeError("Ray's")
    wrapped.__cause__ = StoreError("refused")
    assert str(_cause({0: TrainingError("a peer is gone"), 1: wrapped})) == "refused"
    assert str(_cause({0: RuntimeError("gloo"), 1: TrainingError("a peer is gone")})) == "a peer is gone"
    assert "rank 2 died" in str(_cause({2: RuntimeError("killed")}))


def test_an_error_of_another_rank_keeps_its_exit_code_on_its_way_to_the_driver() -> None:
    sent: PeerError = pickle.loads(pickle.dumps(PeerError("ends with rank 1: refused", exit_code=3)))
    assert (str(sent), sent.exit_code) == ("ends with rank 1: refused", 3)
