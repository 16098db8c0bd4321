"""Decoders that fail as real ones do in the field; `module:Class` names them to the child process.

The clip's bytes say what happens, so that one bad clip lies among good ones.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from weave_data.decode.pyav_decoder import PyavDecoder

HANG, CRASH, EXIT, GREEDY, BUG, ONCE = b"HANG", b"CRASH", b"EXIT", b"GREEDY", b"BUG", b"ONCE:"


class MisbehavingDecoder(PyavDecoder):
    """PyAV, except for clips that start with a command."""

    def decode(self, data, *, choose, keep):
        if data.startswith(ONCE):  # fails at the first attempt only, remembers that in a file
            marker, _, clip = data.removeprefix(ONCE).partition(b"\n")
            data = clip
            if not Path(marker.decode()).exists():
                Path(marker.decode()).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        match data:
            case b"HANG":
                time.sleep(3600)
            case b"CRASH":
                os.kill(os.getpid(), signal.SIGSEGV)
            case b"EXIT":
                os._exit(7)
            case b"GREEDY":
                hoard = [bytearray(os.urandom(1 << 20)) for _ in range(4096)]
                time.sleep(len(hoard))
            case b"BUG":
                raise ZeroDivisionError(f"at {id(self)}")
        return super().decode(data, choose=choose, keep=keep)


class LeakingDecoder(MisbehavingDecoder):
    """The same, and it forgets to give 40 MB back after every clip."""

    def __init__(self):
        super().__init__()
        self.hoard = []

    def decode(self, data, *, choose, keep):
        self.hoard.append(bytearray(b"x") * (40 << 20))
        return super().decode(data, choose=choose, keep=keep)


class UnluckyDecoder(PyavDecoder):
    """Killed as it starts, as many times as the file $WEAVE_TEST_KILLS has bytes."""

    def __init__(self):
        super().__init__()
        path = Path(os.environ["WEAVE_TEST_KILLS"])
        if left := path.read_bytes():
            path.write_bytes(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)


class CountingDecoder(PyavDecoder):
    """PyAV that adds a line to $WEAVE_TEST_DECODED per clip."""

    def decode(self, data, *, choose, keep):
        with Path(os.environ["WEAVE_TEST_DECODED"]).open("a") as file:
            file.write(f"{len(data)}\n")
        return super().decode(data, choose=choose, keep=keep)
