"""SIGTERM is a request; the second one is not."""

from __future__ import annotations

import os
import signal
import threading

from weave_train.train.stop import StopRequest


def test_a_first_sigterm_is_noted_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.is_made
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_made
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_off_the_main_thread_nothing_is_noted_and_nothing_breaks() -> None:
    made = []

    def enter() -> None:
        with StopRequest() as stop:
            made.append(stop.is_made)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(10)
    assert made == [False]
