"""SIGTERM asks a run to stop: it finishes its step, saves once on all ranks and exits with 0.

Launchers of ours ask by `overseer.ask_to_stop` instead, which a rank that is still loading sees later.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from weave_train.overseer import is_asked_to_stop

__all__ = ["AGAIN_SECONDS", "StopRequest"]

AGAIN_SECONDS = 5.0
"""Within which a second SIGTERM is the first once more: who stops a service tells every process of it, and
launchers pass on what they are told."""


class StopRequest:
    """Notes SIGTERM instead of dying of it. A context manager; one that comes 5 s later ends the process.

    Off the main thread, where no handler can be set, nothing is noted.
    """

    def __init__(self) -> None:
        self._noted_at: float | None = None
        self._before: object = None

    @property
    def is_made(self) -> bool:
        """SIGTERM came, or this rank's launcher asked."""
        return self._noted_at is not None or is_asked_to_stop()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]  # what signal gave
            self._before = None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._noted_at is None:
            self._noted_at = time.monotonic()
        elif time.monotonic() - self._noted_at >= AGAIN_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
