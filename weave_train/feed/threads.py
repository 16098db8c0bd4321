"""A pool of daemon threads: a read that hangs can't keep a process from ending.

`concurrent.futures` joins its threads when the interpreter exits, for as long as they take.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["DaemonPool"]

ResultT = TypeVar("ResultT")
_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]

_EXIT_SECONDS = 5.0


class DaemonPool:
    """Runs calls in threads, first in, first out.

    Args:
        num_threads: At least 1.
        name: Of the threads.
    """

    def __init__(self, num_threads: int, *, name: str) -> None:
        tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._tasks = tasks
        threads = [
            threading.Thread(target=_work, args=(tasks,), name=f"{name}-{index}", daemon=True)
            for index in range(num_threads)
        ]
        for thread in threads:
            thread.start()
        # also runs when the interpreter exits, before daemon threads are frozen wherever they are
        self._finalizer = weakref.finalize(self, _stop, tasks, threads)

    def submit(self, function: Callable[..., ResultT], *arguments: Any) -> Future[ResultT]:
        """Call `function(*arguments)` in a thread."""
        future: Future[ResultT] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Cancel what has not begun and give what runs a few seconds; may be called twice."""
        self._finalizer()


def _work(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, function, arguments = task
        del task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001  belongs to whoever waits
                future.set_exception(error)
        del future, function, arguments  # a thread that waits holds no rows


def _stop(tasks: queue.SimpleQueue[_Task | None], threads: Sequence[threading.Thread]) -> None:
    while True:
        try:
            task = tasks.get_nowait()
        except queue.Empty:
            break
        if task is not None:
            task[0].cancel()
    for _ in threads:
        tasks.put(None)
    stop = time.monotonic() + _EXIT_SECONDS
    for thread in threads:
        thread.join(max(0.0, stop - time.monotonic()))
