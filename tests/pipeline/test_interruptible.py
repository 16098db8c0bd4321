"""A signal ends a command in time, whatever its main thread is at, and is answered once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.process

DEADLINE_SECONDS = 120
SCRIPT = """
import sys, time, typer
from weave_data.commands.interruption import interruptible
app = typer.Typer()

@app.command()
def main(body: str) -> None:
    with interruptible(lambda: "going, 3 of 4", ending_seconds=float(sys.argv[2])):
        exec(body)

app([sys.argv[1]])
"""
PLAIN = """
print("ready", flush=True)
time.sleep(1000)
"""
STUBBORN = """
is_new = True
while True:
    try:
        if is_new:
            print("ready", flush=True)
        is_new = False
        time.sleep(1000)
    except KeyboardInterrupt:
        print("caught", flush=True)
"""
LONG_CALL = """
import ctypes, threading
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
threading.Timer(1, lambda: print("ready", flush=True)).start()
libc.pthread_mutex_lock(mutex)  # never returns, and no signal makes it
"""


def started(body: str, ending_seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, body, str(ending_seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_body_with_130_and_one_farewell(number: signal.Signals) -> None:
    process = started(PLAIN, DEADLINE_SECONDS)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_SECONDS / 2)
    assert process.returncode == 130, err
    assert err == "going, 3 of 4\n"
    assert out == ""


@pytest.mark.parametrize("body", [STUBBORN, LONG_CALL], ids=["swallows", "compiled"])
def test_a_body_that_does_not_end_is_ended(body: str) -> None:
    process = started(body, 0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert "going, 3 of 4" in err
    assert time.monotonic() - began > 0.4


def test_a_second_signal_does_not_wait() -> None:
    process = started(STUBBORN, 10 * DEADLINE_SECONDS)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "caught\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130
    assert err.count("going") == 1


def test_without_a_signal_nothing_changes() -> None:
    script = """
import signal
from weave_data.commands.interruption import interruptible
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
for _ in range(3):
    try:
        with interruptible(lambda: "no"):
            raise ValueError("passes")
    except ValueError:
        pass
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
assert signal.set_wakeup_fd(-1) == -1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
