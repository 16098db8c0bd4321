"""SIGTERM is a request; one that comes later, once more, is not."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from weave_data.errors import TrainingError, WeaveError
from weave_train.train import loop, stop
from weave_train.train.stop import StopRequest


def test_sigterm_is_noted_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as request:
        assert not request.is_made
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.is_made
        os.kill(os.getpid(), signal.SIGTERM)  # a launcher passes on what all were told
        assert request.is_made
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_comes_later_ends_the_process() -> None:
    program = """
import os, signal
from weave_train.train import stop
stop.AGAIN_SECONDS = 0.0
with stop.StopRequest():
    os.kill(os.getpid(), signal.SIGTERM)
    print("noted", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "noted\n"
    assert stop.AGAIN_SECONDS >= 1


def told_by_loop(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stops_in_step: int | None = None,
    passes: Sequence[tuple[Any, WeaveError | None, bool]],
) -> list[str]:
    """What a run does around its steps; each pass of validation ends as the next of `passes`."""
    told: list[str] = []
    writer = SimpleNamespace(close=lambda: None, finish=lambda: told.append("finished"))
    run = SimpleNamespace(
        run_dir=run_dir, step=0, num_steps=9, claim=None, writer=writer,
        feed=SimpleNamespace(close=lambda: None),
    )  # fmt: skip
    launch = SimpleNamespace(rank=1, world_size=2, is_first=False)
    config = SimpleNamespace(
        stop_after_steps=None,
        stage="finetune",
        watch=SimpleNamespace(step_timeout_s=60.0, resolved_load_timeout_s=60.0),
    )

    def step(run: Any, *_: object) -> tuple[Any, bool]:
        run.step += 1
        return SimpleNamespace(was_skipped=False, loss=1.0), run.step == stops_in_step

    left = iter(passes)

    def validate(*_: object) -> tuple[Any, WeaveError | None, bool]:
        told.append(f"validated {run.step}")
        return next(left)

    monkeypatch.setattr(loop, "prepare_run", lambda *_, **__: run)
    monkeypatch.setattr(loop, "last_loss", lambda *_, **__: math.nan)
    monkeypatch.setattr(loop, "train_step", step)
    monkeypatch.setattr(loop, "replace", lambda report, **_: report)
    monkeypatch.setattr(loop, "_validate", validate)
    monkeypatch.setattr(loop, "_is_save_step", lambda _: False)
    monkeypatch.setattr(loop, "save_run", lambda run: told.append(f"saved {run.step}"))
    try:
        loop.train(config, launch)  # type: ignore[arg-type]
    except WeaveError as error:
        told.append(str(error))
    return told


GOES_ON = (None, None, False)


def test_a_run_that_is_asked_to_stop_saves_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_by_loop(tmp_path, monkeypatch, stops_in_step=2, passes=[GOES_ON])
    assert told == ["validated 1", "saved 2", "finished"]


def test_a_run_that_is_asked_to_stop_while_it_validates_saves_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_by_loop(tmp_path, monkeypatch, passes=[GOES_ON, (None, None, True)])
    assert told == ["validated 1", "validated 2", "saved 2", "finished"]


def test_a_pass_that_fails_ends_the_run_after_its_steps_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_by_loop(tmp_path, monkeypatch, passes=[(None, TrainingError("a bad row"), False)])
    assert told == ["validated 1", "saved 1", "finished", "a bad row"]


def test_off_the_main_thread_nothing_is_noted_and_nothing_breaks() -> None:
    made = []

    def enter() -> None:
        with StopRequest() as request:
            made.append(request.is_made)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(10)
    assert made == [False]
