"""A crash, a hang or an exhausted memory costs one clip, and the others don't notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bad_decoders import BUG, CRASH, EXIT, GREEDY, HANG, ONCE
from clips import rendered

from weave_data.decode import isolation
from weave_data.decode.isolation import IsolatedDecoder, LostClipError
from weave_data.decode.job import ClipJob, PictureFormat
from weave_data.errors import DecodeError, DeviceError, IncompleteError
from weave_data.frame_policy import FrameAsk
from weave_data.records import RejectReason

pytestmark = pytest.mark.process

ASKS = (FrameAsk("linspace", 2), FrameAsk("linspace", 4))
JOB = ClipJob(ASKS)


def isolated(decoder: str = "bad_decoders:MisbehavingDecoder", **changes) -> IsolatedDecoder:
    limits = {"timeout_seconds": 120.0, "memory_bytes": 1 << 30, **changes}
    return IsolatedDecoder(decoder=decoder, picture=PictureFormat(48), **limits)


def test_a_clip_gives_its_frames_in_order_of_first_use() -> None:
    with isolated("pyav") as decoder:
        clip = decoder.decode(rendered("h264"), JOB)
        rest = decoder.decode(rendered("h264"), ClipJob(ASKS, stored=(0, 13)))
    assert (clip.source_frames, clip.width, clip.height) == (40, 72, 48)
    assert [index for index, _, _ in clip.frames] == [0, 39, 13, 26]
    assert rest.frames == tuple(frame for frame in clip.frames if frame[0] in (39, 26))


@pytest.mark.parametrize(
    ("command", "reason", "detail"),
    [
        (CRASH, RejectReason.KILLED, "SIGSEGV"),
        (EXIT, RejectReason.KILLED, "exit code 7"),
        (HANG, RejectReason.TIMEOUT, "8 s"),
        (GREEDY, RejectReason.KILLED, "bytes of memory in use, 536870912 are allowed"),
    ],
)
def test_a_clip_that_kills_its_process_is_lost_alone(
    command: bytes, reason: RejectReason, detail: str
) -> None:
    changes = {"timeout_seconds": 2.0} if command == HANG else {"memory_bytes": 1 << 27}
    with isolated(**changes) as decoder:
        if command != HANG:
            decoder.decode(rendered("h264"), JOB)
        with pytest.raises(LostClipError) as caught:
            decoder.decode(command, JOB)
        assert caught.value.reason == reason
        assert detail in caught.value.detail
        decoder._timeout_seconds = 120.0
        assert len(decoder.decode(rendered("h264"), JOB).frames) == 4


def test_a_lost_clip_is_tried_again_in_a_fresh_process(tmp_path: Path) -> None:
    clip = ONCE + str(tmp_path / "seen").encode() + b"\n" + rendered("h264")
    with isolated() as decoder:
        assert len(decoder.decode(clip, JOB).frames) == 4
        assert decoder.num_started == 2
        assert decoder._child is None  # the one with larger limits serves no other clip


def test_processes_are_recycled_and_none_is_left_behind() -> None:
    before = set(psutil.Process().children())
    with isolated("pyav", recycle_clips=2) as decoder:
        for _ in range(5):
            decoder.decode(rendered("h264"), JOB)
        assert decoder.num_started == 3
        assert len(set(psutil.Process().children()) - before) == 1
    assert set(psutil.Process().children()) == before


def test_a_decoder_that_leaks_little_by_little_is_replaced_before_it_costs_a_clip() -> None:
    with isolated("bad_decoders:LeakingDecoder", memory_bytes=1 << 29) as decoder:  # 40 MB a clip
        for _ in range(12):
            decoder.decode(rendered("h264"), JOB)
            assert decoder._child is not None  # never lost, which would have ended its process
            assert decoder._child.resident_bytes() < 1 << 29
        assert decoder.num_started > 1


def test_a_bug_in_a_decoder_is_one_reject_without_addresses() -> None:
    with isolated() as decoder:
        with pytest.raises(DecodeError) as caught:
            decoder.decode(BUG, JOB)
        assert (caught.value.reason, caught.value.detail) == (
            "corrupt",
            "the decoder raised ZeroDivisionError",
        )
        assert decoder.num_started == 1


def test_a_decoder_that_is_not_installed_stops_the_run() -> None:
    with isolated("no_such_package:Decoder") as decoder, pytest.raises(DeviceError, match="no_such_package"):
        decoder.decode(rendered("h264"), JOB)


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Deaths of a child as it starts, a byte each."""
    monkeypatch.setattr(isolation, "_START_PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("WEAVE_TEST_KILLS", str(tmp_path / "kills"))
    return tmp_path / "kills"


def test_a_child_that_is_killed_as_it_starts_is_started_again_and_costs_no_clip(kills: Path) -> None:
    kills.write_bytes(b"11")
    with isolated("bad_decoders:UnluckyDecoder") as decoder:
        assert len(decoder.decode(rendered("h264"), JOB).frames) == 4
        assert decoder.num_started == 3


def test_a_child_that_is_killed_whenever_it_starts_is_no_fault_of_its_installation(kills: Path) -> None:
    kills.write_bytes(b"1" * 9)
    said = r"was killed by SIGKILL while it started, 3 times \(out of memory\?\).*run the same command again"
    with isolated("bad_decoders:UnluckyDecoder") as decoder:
        with pytest.raises(IncompleteError, match=said):
            decoder.decode(rendered("h264"), JOB)
        kills.write_bytes(b"")
        assert len(decoder.decode(rendered("h264"), JOB).frames) == 4


def test_a_child_dies_with_its_parent() -> None:
    script = (
        "import json, sys; from weave_data.decode.isolation import *; from weave_data.decode.job import *\n"
        "d = IsolatedDecoder(decoder='bad_decoders:MisbehavingDecoder', picture=PictureFormat(48),"
        " timeout_seconds=600, memory_bytes=1 << 30)\n"
        "from weave_data.decode.isolation import _Child; child = _Child(d._settings)\n"
        "child._connection.send_bytes(json.dumps(ClipJob(()).to_json()).encode())\n"
        "child._connection.send_bytes(b'HANG')\n"
        "print(child._process.pid, flush=True); sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_child_imports_neither_tables_nor_models() -> None:
    script = (
        "import sys, weave_data.decode.worker, weave_data.decode.pyav_decoder\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"av", "numpy", "PIL"} <= loaded
    assert not loaded & {"torch", "ray", "pyarrow", "pydantic", "boto3", "fsspec", "decord", "psutil"}
