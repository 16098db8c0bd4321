"""Saves while training goes on: it stands still for one copy to host memory.

    writer = CheckpointWriter(store, launch=launch, settings=config.checkpoint)
    writer.reserve(engine.fragments())      host memory and the background process, at the start
    writer.save(StepSnapshot(...))          every rank; returns when the values are copied
    writer.check()                          every step; raises what went wrong meanwhile
    writer.finish()                         every rank, at the end: the last save is complete

One save is under way at a time; the next waits for it, and the wait is counted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from weave_data.errors import StoreError
from weave_data.storage import Store
from weave_train.checkpoint.background import Setup
from weave_train.checkpoint.commit import Retention, SaveJob
from weave_train.checkpoint.layout import Completion
from weave_train.checkpoint.pieces import TensorRange
from weave_train.checkpoint.snapshot import MAX_FILE_BYTES, Snapshot
from weave_train.config import CheckpointConfig
from weave_train.launch import Launch

__all__ = ["CheckpointWriter", "SaveStats", "StepSnapshot"]

_CLOSE_SECONDS = 10.0
_POLL_SECONDS = 0.5
_SOURCES = Path(__file__).parents[2]


@dataclass(frozen=True)
class StepSnapshot:
    """What a save holds.

    Attributes:
        step: Optimizer steps taken.
        ranges: This rank's masters and optimizer states.
        shapes: Of every trained parameter.
        frozen: sha256 of each part's frozen weights, which are in the store; see `frozen`.
        state: What training needs to go on, JSON-able.
    """

    step: int
    ranges: Iterable[TensorRange]
    shapes: Mapping[str, tuple[int, ...]]
    frozen: Mapping[str, str]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class SaveStats:
    """Sums over a writer's saves, on this rank.

    Attributes:
        num_saves: Begun.
        copy_seconds: Training stood still for copies.
        wait_seconds: Training stood still for an earlier save, or for its own where `is_async` is false.
        copied_bytes: To host memory.
    """

    num_saves: int = 0
    copy_seconds: float = 0.0
    wait_seconds: float = 0.0
    copied_bytes: int = 0


class CheckpointWriter:
    """Writes a run's checkpoints; one on every rank. Call its methods on all ranks alike.

    Args:
        store: Of the run.
        launch: Rank and world size.
        settings: What is kept, and whether training goes on meanwhile.
        max_file_bytes: See `snapshot.plan_files`.
    """

    def __init__(
        self,
        store: Store,
        *,
        launch: Launch,
        settings: CheckpointConfig,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._store = store
        self._launch = launch
        self._settings = settings
        self._max_file_bytes = max_file_bytes
        self._run_name = _shared_name(launch)
        self._snapshot: Snapshot | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._is_written = self._is_done = True
        self._failure: str | None = None
        self._stats = SaveStats()

    @property
    def stats(self) -> SaveStats:
        """So far."""
        return self._stats

    def reserve(self, ranges: Iterable[TensorRange]) -> None:
        """Take host memory for a snapshot of these ranges and start the background process.

        Raises:
            DeviceError: There is not enough memory.
        """
        self._snapshot = Snapshot(
            ranges,
            rank=self._launch.rank,
            is_pinned=self._launch.device.type == "cuda",
            max_file_bytes=self._max_file_bytes,
        )
        files = self._snapshot.files
        ours, theirs = Pipe()
        with theirs:
            paths = [str(_SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
            # inherited, and so from its first instruction on: both signals are the rank's to answer
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "weave_train.checkpoint.background", str(theirs.fileno())],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), *(file.descriptor for file in files)],
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._connection = ours
        self._tell(Setup(self._store, files))

    def save(self, snapshot: StepSnapshot) -> None:
        """Save a step; returns when its values are in host memory, or complete if not `is_async`.

        Raises:
            StoreError: On some rank an earlier save failed; or, if not `is_async`, this one.
        """
        ranges = list(snapshot.ranges)
        if self._snapshot is None:
            self.reserve(ranges)
        assert self._snapshot is not None
        begin = time.perf_counter()
        self._wait_for_last()
        waited = time.perf_counter()
        self._snapshot.fill(ranges)
        copied = time.perf_counter()
        job = SaveJob(
            attempt=f"{self._run_name}-{self._stats.num_saves}",
            rank=self._launch.rank,
            completion=Completion(
                snapshot.step, snapshot.shapes, snapshot.frozen, snapshot.state, self._launch.world_size
            ),
            retention=Retention(self._settings.keep_last, self._settings.keep_every_steps),
        )
        self._is_written = self._is_done = False
        self._tell(job)
        self._stats = SaveStats(
            self._stats.num_saves + 1,
            self._stats.copy_seconds + copied - waited,
            self._stats.wait_seconds + waited - begin,
            self._stats.copied_bytes + self._snapshot.bytes,
        )
        if not self._settings.is_async:
            self.finish()

    def check(self) -> None:
        """Notice what the background process said; cheap.

        Raises:
            StoreError: A save failed.
        """
        while self._connection is not None and self._failure is None and self._connection.poll(0):
            self._hear()
        if self._failure is None and self._process is not None and self._process.poll() is not None:
            self._failure = _how_it_ended(self._process.returncode)
        if self._failure is not None:
            raise StoreError(f"rank {self._launch.rank}: checkpoints can't be saved: {self._failure}")

    def finish(self) -> None:
        """Wait until the last save is complete, or has failed on some rank; a collective.

        Raises:
            StoreError: It failed, on this rank or another.
        """
        begin = time.perf_counter()
        self._wait_for_last()
        waited = time.perf_counter() - begin
        self._stats = replace(self._stats, wait_seconds=self._stats.wait_seconds + waited)

    def close(self) -> None:
        """End the background process and give the memory back; a save under way gets a few seconds."""
        if self._process is None or self._connection is None:
            return
        if self._failure is None and self._process.poll() is None:
            self._tell(None)
            try:
                self._process.wait(timeout=_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._connection.close()
        self._process.wait()
        self._process = self._connection = None
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def _wait_for_last(self) -> None:
        # written everywhere before rank 0 waits for what it would else never see
        self._wait_together(until_done=False)
        self._wait_together(until_done=True)

    def _wait_together(self, *, until_done: bool) -> None:
        failure: StoreError | None = None
        try:
            self._wait(until_done=until_done)
        except StoreError as error:
            failure = error
        _agree(failure, self._launch)

    def _wait(self, *, until_done: bool) -> None:
        self.check()
        while not (self._is_done if until_done else self._is_written):
            assert self._connection is not None
            self._connection.poll(_POLL_SECONDS)
            self.check()

    def _tell(self, message: Setup | SaveJob | None) -> None:
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:
            self.check()  # says how it ended
            raise

    def _hear(self) -> None:
        assert self._connection is not None
        try:
            word, text = self._connection.recv()
        except (EOFError, OSError):
            assert self._process is not None
            self._failure = _how_it_ended(self._process.wait())
            return
        self._is_written = True
        self._is_done = word == "done"
        if word == "failed":
            self._failure = text


def _how_it_ended(code: int) -> str:
    return f"the process that writes them ended with code {code}; see its message, or whether memory ran out"


def _shared_name(launch: Launch) -> str:
    """A name no other process of this run had, equal on all ranks."""
    names = [uuid4().hex[:12]]
    if launch.world_size > 1:
        torch.distributed.broadcast_object_list(names, src=0)
    return names[0]


def _agree(failure: StoreError | None, launch: Launch) -> None:
    """Raise on every rank if any failed: its own error, or the first of the others'."""
    told: list[str | None] = [None if failure is None else str(failure)]
    if launch.world_size > 1:
        told = [None] * launch.world_size
        torch.distributed.all_gather_object(told, None if failure is None else str(failure))
    if failure is not None:
        raise failure
    others = [message for message in told if message is not None]
    if others:
        raise StoreError(f"stopped with the others, nothing is wrong here; {others[0]}")
