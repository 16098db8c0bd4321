"""Owner of the child process: a deadline and a memory limit per clip, one retry alone, recycling.

A crash, a hang or an exhausted memory costs the clip that caused it: it is decoded once more in a
fresh process with four times the limits, and if that fails too it is *lost* for this run, which is a
circumstance and not a property of the clip.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from weave_data.decode.job import ClipFrames, ClipJob, PictureFormat
from weave_data.errors import DecodeError, DeviceError, IncompleteError
from weave_data.records import RejectReason

__all__ = ["IsolatedDecoder", "LostClipError"]

RETRY_FACTOR = 4
_START_SECONDS = 120.0
_START_PAUSES_SECONDS = (1.0, 5.0, 15.0)
"""Between attempts to start a child: whoever took the memory that it lacked may be gone by then."""

_POLL_SECONDS = 0.05


class LostClipError(Exception):
    """A circumstance kept a clip from being decoded; `reason` is `timeout` or `killed`."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason.value}: {detail}")


class IsolatedDecoder:
    """Decodes clips one after another in a child process that is replaced when it fails.

    Args:
        decoder: Name for `load_decoder`.
        picture: Size and format of the stored frames.
        timeout_seconds: Deadline of one clip.
        memory_bytes: Resident memory one child may hold.
        recycle_clips: A child is replaced after this many clips, or when between two of them it holds
            three quarters of its memory: decoders leak.
    """

    def __init__(
        self,
        *,
        decoder: str,
        picture: PictureFormat,
        timeout_seconds: float,
        memory_bytes: int,
        recycle_clips: int = 1000,
    ) -> None:
        self._settings = json.dumps({"decoder": decoder, "picture": picture.to_json()})
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._recycle_clips = recycle_clips
        self._child: _Child | None = None
        self.num_started = 0

    def __enter__(self) -> Self:
        """Nothing is started before the first clip."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the child."""
        self._stop()

    def decode(self, data: bytes, job: ClipJob) -> ClipFrames:
        """Decode one clip.

        Raises:
            DecodeError: The clip's content is at fault.
            LostClipError: It timed out or was killed twice.
            DeviceError: The decoder can't be loaded.
            IncompleteError: The child is killed whenever it starts.
        """
        try:
            if self._child is not None and self._is_spent(self._child):
                self._stop()
            return self._attempt(data, job, factor=1)
        except LostClipError:
            self._stop()
        try:
            return self._attempt(data, job, factor=RETRY_FACTOR)
        finally:
            self._stop()  # alone: the child with larger limits serves no other clip

    def _attempt(self, data: bytes, job: ClipJob, *, factor: int) -> ClipFrames:
        if self._child is None:
            self._child = self._start()
        return self._child.decode(
            data,
            job,
            timeout_seconds=self._timeout_seconds * factor,
            memory_bytes=self._memory_bytes * factor,
        )

    def _start(self) -> _Child:
        """A child that said hello; one that is killed before that, as when memory is short, is no clip's."""
        for pause_seconds in (*_START_PAUSES_SECONDS, None):
            self.num_started += 1
            try:
                return _Child(self._settings)
            except _KilledAtStartError as error:
                if pause_seconds is None:
                    raise IncompleteError(
                        f"{error} while it started, {len(_START_PAUSES_SECONDS) + 1} times (out of memory?); "
                        "see `dmesg` for who killed it, lower execution.num_cpus or give the machine or "
                        "container more memory, then run the same command again"
                    ) from error
                time.sleep(pause_seconds)
        raise AssertionError("the last attempt returns or raises")

    def _is_spent(self, child: _Child) -> bool:
        """A child that leaked little by little is replaced before it costs a clip."""
        return child.num_clips >= self._recycle_clips or child.resident_bytes() > self._memory_bytes * 3 // 4

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


class _KilledAtStartError(Exception):
    """A signal ended a child before its hello."""


class _Child:
    """One child process and the socket to it."""

    def __init__(self, settings: str) -> None:
        self.num_clips = 0
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "weave_data.decode.worker", str(theirs.fileno()), settings]
        # the parent may have found its modules through a path that only it was given
        found_through = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": found_through, "PYTHONSAFEPATH": "1"}
        environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._watched = psutil.Process(self._process.pid)
        try:
            hello = self._receive(_START_SECONDS, None)
        except LostClipError as error:
            code = self._process.poll()
            self.stop()
            if code is not None and code == -signal.SIGKILL:
                raise _KilledAtStartError(error.detail) from error
            raise DeviceError(
                f"the decoder process does not start ({error.detail}); run "
                f"`{sys.executable} -m weave_data.decode.worker` to see why"
            ) from error
        if "fatal" in hello:
            self.stop()
            raise DeviceError(hello["fatal"])

    def decode(self, data: bytes, job: ClipJob, *, timeout_seconds: float, memory_bytes: int) -> ClipFrames:
        """See `IsolatedDecoder.decode`."""
        self.num_clips += 1
        try:
            self._connection.send_bytes(json.dumps(job.to_json()).encode())
            self._connection.send_bytes(data)
        except OSError as error:
            raise self._death() from error
        answer = self._receive(timeout_seconds, memory_bytes)
        if "rejected" in answer:
            raise DecodeError(*answer["rejected"])
        if "failed" in answer:
            raise LostClipError(RejectReason.KILLED, answer["failed"])
        return ClipFrames.from_message(answer["clip"], self._receive_bytes())

    def stop(self) -> None:
        """End the process; a child that is busy is killed."""
        self._connection.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def resident_bytes(self) -> int:
        """Memory that the process holds now; 0 when it has just ended: the connection will say so."""
        try:
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0

    def _receive(self, timeout_seconds: float, memory_bytes: int | None) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_seconds
        while not self._connection.poll(_POLL_SECONDS):
            if time.monotonic() > deadline:
                raise LostClipError(RejectReason.TIMEOUT, f"no answer within {timeout_seconds:g} s")
            if memory_bytes is not None and (used := self.resident_bytes()) > memory_bytes:
                detail = f"{used} bytes of memory in use, {memory_bytes} are allowed"
                raise LostClipError(RejectReason.KILLED, detail)
        message: dict[str, Any] = json.loads(self._receive_bytes())
        return message

    def _receive_bytes(self) -> bytes:
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _death(self) -> LostClipError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return LostClipError(RejectReason.KILLED, "the decoder process closed its connection")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return LostClipError(RejectReason.KILLED, f"the decoder process {how}")
