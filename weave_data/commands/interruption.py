"""Ctrl-C and SIGTERM: answered at once, over within seconds, whatever the main thread is at."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import typer

from weave_data.commands.terminal import INTERRUPTED, err, escape

__all__ = ["ENDING_SECONDS", "interruptible"]

ENDING_SECONDS = 6.0
"""Time to close stores, Ray and scratch files in an orderly way; a job stopped by `submit` has 7."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interruptible(
    farewell: Callable[[], str],
    *,
    ending_seconds: float = ENDING_SECONDS,
    last_words: Callable[[], str] = str,
) -> Iterator[None]:
    """Let SIGINT and SIGTERM end what runs inside: one KeyboardInterrupt, then exit code 130.

    A thread says the farewell when the signal comes, and ends the process itself when the interrupted code
    is not done in time or a second signal comes. That a store that does not answer, or a long call into
    compiled code, holds the main thread therefore delays nothing. Only in the main thread; elsewhere
    nothing changes.

    Args:
        farewell: Gives the line to say; called in another thread.
        ending_seconds: Longest time from the signal to the end of the process.
        last_words: Gives what is left to say when the code inside has to be cut off; may be empty.

    Raises:
        typer.Exit: The code ended because of a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(farewell, ending_seconds, last_words)
    before = {number: signal.signal(number, watch.interrupt) for number in _SIGNALS}
    wakeup_before = signal.set_wakeup_fd(watch.wakeup, warn_on_full_buffer=False)
    try:
        yield
    except BaseException as error:
        if not watch.is_interrupted:
            raise
        watch.is_answered.wait(ending_seconds)
        raise typer.Exit(INTERRUPTED) from error
    finally:
        if not watch.is_interrupted:  # else the watch stays until the process is gone
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            watch.close()


class _Watch:
    """The thread; signals reach it through a pipe that the interpreter writes their numbers to."""

    def __init__(
        self, farewell: Callable[[], str], ending_seconds: float, last_words: Callable[[], str]
    ) -> None:
        self.is_interrupted = False
        self.is_answered = threading.Event()
        self._farewell, self._last_words = farewell, last_words
        self._ending_seconds = ending_seconds
        self._reader, self.wakeup = os.pipe()
        os.set_blocking(self.wakeup, False)
        threading.Thread(target=self._watch, name="interruption", daemon=True).start()

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """The first signal raises in the main thread; the thread deals with those that follow."""
        if not self.is_interrupted:
            self.is_interrupted = True
            raise KeyboardInterrupt

    def close(self) -> None:
        """Let the thread end."""
        os.close(self.wakeup)

    def _watch(self) -> None:
        with os.fdopen(self._reader, "rb", buffering=0) as reader:
            if not _next_signal(reader.fileno(), None):
                return
            err.print(escape(self._farewell()))
            self.is_answered.set()
            _next_signal(reader.fileno(), self._ending_seconds)
            if words := self._last_words():
                err.print(escape(words))
            os._exit(INTERRUPTED)


def _next_signal(reader: int, timeout: float | None) -> bool:
    """Wait for one of our signals; False when time is up or nobody is left to write."""
    while select.select([reader], [], [], timeout)[0]:
        numbers = os.read(reader, 1)
        if not numbers:
            return False
        if numbers[0] in _SIGNALS:
            return True
    return False
