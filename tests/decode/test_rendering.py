"""Clips rendered for tests leave the process that renders them as it was."""

from __future__ import annotations

import os
import threading

import pytest
from clips import RENDERINGS
from rendering import render_video


@pytest.mark.parametrize("name", ["av1", "h264"])
def test_rendering_makes_no_thread_real_time(name: str) -> None:
    found: list[int] = []

    def render() -> None:
        before = os.sched_getscheduler(0)
        render_video(RENDERINGS[name])
        found.extend([before, os.sched_getscheduler(0)])

    thread = threading.Thread(target=render)  # what the encoder changes is the thread's, not this one's
    thread.start()
    thread.join()
    assert found[0] == found[1] != os.SCHED_FIFO
