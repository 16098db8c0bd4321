"""SIGTERM asks a run to stop: it finishes its step, saves once on all ranks and exits with 0.

Launchers of ours ask by `overseer.ask_to_stop` instead, which a rank that is still loading sees later.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from weave_train.overseer import is_asked_to_stop

__all__ = ["StopRequest"]


class StopRequest:
    """Notes SIGTERM instead of dying of it. A context manager; a second SIGTERM ends the process.

    Off the main thread, where no handler can be set, nothing is noted.
    """

    def __init__(self) -> None:
        self._is_noted = False
        self._before: object = None

    @property
    def is_made(self) -> bool:
        """SIGTERM came, or this rank's launcher asked."""
        return self._is_noted or is_asked_to_stop()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]  # what signal gave
            self._before = None

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._is_noted = True
        signal.signal(number, signal.SIG_DFL)
