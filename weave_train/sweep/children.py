"""Commands that a sweep starts: each a process of its own, all of them ended with the sweep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from weave_data.errors import IncompleteError
from weave_train.overseer import PARENT_VARIABLE

__all__ = ["Children"]

_MODULES = {"weave-data": "weave_data", "weave-train": "weave_train"}
_GRACE_SECONDS = 60.0
_POLL_SECONDS = 0.1


class Children:
    """Starts commands and waits for them; `stop` asks all of them to end, from any thread.

    A killed sweep takes training and evaluation with it: they watch the process that started them.
    """

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped

    def run(self, words: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> int:
        """Run one of our commands to its end, what it says going to a file.

        Args:
            words: Program and arguments, `weave-train` or `weave-data` first.
            log: Appended to.
            environment: Variables beside this process's own.

        Returns:
            Its exit code.

        Raises:
            IncompleteError: The sweep was stopped.
        """
        program, *arguments = words
        command = [sys.executable, "-m", _MODULES[program], *arguments]
        base = {name: value for name, value in os.environ.items() if name != "RANK"}
        variables = {**base, **(environment or {}), PARENT_VARIABLE: str(os.getpid())}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            with self._lock:
                if self._is_stopped:
                    raise IncompleteError("stopped; the same command goes on")
                process = subprocess.Popen(
                    command, env=variables, stdout=sink, stderr=sink, start_new_session=True
                )
                self._running.add(process)
            try:
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        if self._is_stopped:
            raise IncompleteError("stopped; the same command goes on")
        return code

    def stop(self) -> None:
        """Ask every command to save and end, end those that don't, start no more."""
        with self._lock:
            self._is_stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for process in running:
            if process.poll() is None:
                process.kill()
