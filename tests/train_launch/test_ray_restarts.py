"""Which failures of a group of Ray workers are worth another start, and whose error is told."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from weave_data.errors import (
    ConfigError,
    DeviceError,
    StoreError,
    TrainingError,
    VerificationError,
    WeaveError,
)
from weave_train.ray_launch import _cause, _run_with_restarts
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


def test_an_error_with_a_code_of_its_own_is_told_before_what_followed_it() -> None:
    wrapped = RuntimeError("Ray's")
    wrapped.__cause__ = StoreError("refused")
    assert str(_cause({0: TrainingError("a peer is gone"), 1: wrapped})) == "refused"
    assert str(_cause({0: RuntimeError("gloo"), 1: TrainingError("a peer is gone")})) == "a peer is gone"
    assert "rank 2 died" in str(_cause({2: RuntimeError("killed")}))


def test_an_error_of_another_rank_keeps_its_exit_code_on_its_way_to_the_driver() -> None:
    sent: PeerError = pickle.loads(pickle.dumps(PeerError("ends with rank 1: refused", exit_code=3)))
    assert (str(sent), sent.exit_code) == ("ends with rank 1: refused", 3)
