"""Saving in the background: what is complete, what waits, what is kept, and what a kill leaves."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from stored_pieces import Held
from training_runs import ends_of_ranks

from weave_data.errors import StoreError, TrainingError
from weave_data.storage import LocalStore, Store
from weave_train.checkpoint.layout import complete_key, complete_steps, newest_checkpoint, read_checkpoint
from weave_train.checkpoint.reading import read_weights
from weave_train.checkpoint.writer import CheckpointWriter, StepSnapshot
from weave_train.config import CheckpointConfig
from weave_train.launch import Launch

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

NUMEL = 8_000
ALONE = Launch(0, 1, 0, torch.device("cpu"))


def snapshot(step: int, numel: int = NUMEL) -> StepSnapshot:
    """Every weight is the step's number, so that a mixture of two steps is seen."""
    held = [
        Held(name, 0, numel, torch.full((numel,), float(step)), {"exp_avg": torch.zeros(numel)})
        for name in ("a", "b")
    ]
    return StepSnapshot(step, held, {"a": (numel,), "b": (numel,)}, {}, {"step": step})


def check_whole(store: Store) -> int:
    """Step of the newest checkpoint, whose weights all are of that step; 0 when there is none."""
    newest = newest_checkpoint(store)
    if newest is None:
        return 0
    for value in read_weights(newest).values():
        assert torch.equal(value, torch.full((NUMEL,), float(newest.step)))
    return newest.step


@pytest.fixture
def open_writers() -> Iterator[list[CheckpointWriter]]:
    writers: list[CheckpointWriter] = []
    yield writers
    for writer in writers:
        writer.close()


@dataclass
class Writers:
    """Makes writers that the fixture closes."""

    opened: list[CheckpointWriter]

    def __call__(self, store: Any, **settings: Any) -> CheckpointWriter:
        writer = CheckpointWriter(
            store, launch=ALONE, settings=CheckpointConfig(**settings), max_file_bytes=40_000
        )
        self.opened.append(writer)
        return writer


@pytest.fixture
def make_writer(open_writers: list[CheckpointWriter]) -> Writers:
    return Writers(open_writers)


def test_what_was_saved_is_what_the_weights_were_when_save_returned(
    tmp_path: Path, make_writer: Writers
) -> None:
    writer = make_writer(LocalStore(tmp_path))
    saved = snapshot(1)
    writer.save(saved)
    for piece in saved.ranges:
        piece.weight.fill_(77.0)
    writer.finish()
    assert check_whole(LocalStore(tmp_path)) == 1
    checkpoint = read_checkpoint(LocalStore(tmp_path), 1)
    assert len(checkpoint.pieces) == 4  # cut in files of 40 kB
    assert {piece.kind for piece in checkpoint.pieces} == {"weights", "optimizer"}


def test_a_rank_that_can_not_write_ends_the_next_save_on_all_ranks(tmp_path: Path) -> None:
    script = Path(__file__).with_name("failing_save.py")
    codes, errors = ends_of_ranks(script, str(tmp_path), timeout=200)
    assert codes == [StoreError.exit_code, StoreError.exit_code], errors
    assert "rank 1: checkpoints can't be saved" in errors[1]
    assert "rank 1: checkpoints can't be saved" in errors[0]
    assert complete_steps(LocalStore(tmp_path / "run")) == []


def test_a_save_that_is_not_asynchronous_is_complete_when_it_returns(
    tmp_path: Path, make_writer: Writers
) -> None:
    writer = make_writer(LocalStore(tmp_path), is_async=False)
    writer.save(snapshot(4))
    assert complete_steps(LocalStore(tmp_path)) == [4]
    assert writer.stats.wait_seconds > 0


def test_a_second_save_waits_for_the_first_and_the_wait_is_counted(
    tmp_path: Path, make_writer: Writers
) -> None:
    writer = make_writer(LocalStore(tmp_path))
    writer.save(snapshot(1))
    assert writer.stats.wait_seconds < 0.1
    process = writer._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)  # the first save can't end before this is undone
    threading.Timer(0.5, process.send_signal, [signal.SIGCONT]).start()
    writer.save(snapshot(2))
    assert complete_steps(LocalStore(tmp_path))[0] == 1
    assert writer.stats.num_saves == 2
    assert writer.stats.wait_seconds > 0.2
    assert writer.stats.copied_bytes > 2 * 4 * NUMEL * 4
    writer.finish()
    assert complete_steps(LocalStore(tmp_path)) == [1, 2]


def test_a_failed_save_is_told_at_the_next_step(tmp_path: Path, make_writer: Writers) -> None:
    writer = make_writer(LocalStore(tmp_path))
    writer.check()
    (tmp_path / "checkpoints").write_text("a file in the way")
    writer.save(snapshot(1))
    with pytest.raises(StoreError, match=r"rank 0: checkpoints can't be saved: .*File exists"):
        writer.finish()
    for call in (writer.check, writer.finish, lambda: writer.save(snapshot(2))):
        with pytest.raises(StoreError, match="can't be saved"):
            call()


def test_a_killed_background_process_is_told_at_the_next_step(tmp_path: Path, make_writer: Writers) -> None:
    writer = make_writer(LocalStore(tmp_path))
    writer.save(snapshot(1))
    writer.finish()
    assert writer._process is not None
    writer._process.kill()
    writer._process.wait()
    with pytest.raises(StoreError, match="ended with code -9"):
        writer.check()


def test_ranges_that_changed_between_two_saves_are_refused(tmp_path: Path, make_writer: Writers) -> None:
    writer = make_writer(LocalStore(tmp_path))
    writer.save(snapshot(1))
    with pytest.raises(TrainingError, match="changed between two saves"):
        writer.save(snapshot(2, NUMEL + 1))


def test_the_last_ones_and_every_nth_are_kept_and_nothing_else_is_left(
    tmp_path: Path, make_writer: Writers
) -> None:
    writer = make_writer(LocalStore(tmp_path), keep_last=2, keep_every_steps=4)
    for step in range(1, 8):
        writer.save(snapshot(step))
    writer.finish()
    assert complete_steps(LocalStore(tmp_path)) == [4, 6, 7]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000006",
        "step-000007",
    ]


def test_a_step_that_exists_already_stays_as_it_is(tmp_path: Path, make_writer: Writers) -> None:
    store = LocalStore(tmp_path)
    first = make_writer(store, is_async=False)
    first.save(snapshot(3))
    before = store.get(complete_key(3))
    second = make_writer(store, is_async=False)
    second.save(snapshot(3))
    assert store.get(complete_key(3)) == before
    assert check_whole(store) == 3
    assert len(list((tmp_path / "checkpoints" / "step-000003").iterdir())) == 2


def test_the_background_process_ends_with_its_rank(tmp_path: Path, make_writer: Writers) -> None:
    writer = make_writer(LocalStore(tmp_path))
    writer.save(snapshot(1))
    process = writer._process
    assert process is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)  # both are the rank's to answer
    writer.finish()
    assert complete_steps(LocalStore(tmp_path)) == [1]
    assert writer._connection is not None
    writer._connection.close()  # what the end of the rank does
    assert process.wait(timeout=60) == 1


def test_kills_at_random_times_leave_a_whole_checkpoint(tmp_path: Path, make_writer: Writers) -> None:
    store, random_ = LocalStore(tmp_path), random.Random(5)
    completed = 0
    for step in range(1, 21):
        writer = make_writer(store, keep_last=2)
        writer.save(snapshot(step))
        if random_.random() < 0.3:
            writer.finish()
            completed = step
        assert writer._process is not None
        timer = threading.Timer(random_.uniform(0.0, 0.3), os.kill, [writer._process.pid, signal.SIGKILL])
        timer.start()
        writer._process.wait()
        timer.cancel()
        writer.close()
        assert check_whole(store) >= completed
