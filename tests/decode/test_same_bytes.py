"""Stored frames and measures don't depend on the CPU: the same bytes without any SIMD."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from clips import RENDERINGS, rendered

SCRIPT = """
import ctypes, hashlib, json, sys
import av
if sys.argv[1] == "plain":
    lines = open("/proc/self/maps").read().split()
    libavutil = next(word for word in lines if "libavutil" in word)
    ctypes.CDLL(libavutil).av_force_cpu_flags(0)
from weave_data.decode.picture import SWSCALE_DEFAULT, SWSCALE_EXACT
from weave_data.decode.pyav_decoder import PyavDecoder
from weave_data.decode.job import ClipJob, PictureFormat
from weave_data.decode.worker import decode_clip
from weave_data.frame_policy import FrameAsk
jobs = [(ClipJob((FrameAsk("linspace", 4),), measure=True), PictureFormat(50, f)) for f in ("jpeg", "png")]
sums = []
for flags in (SWSCALE_EXACT, SWSCALE_DEFAULT):
    for path in sys.argv[2:]:
        data = open(path, "rb").read()
        messages = [decode_clip(PyavDecoder(swscale_flags=flags), data, *job).to_message() for job in jobs]
        sums.append(hashlib.sha256(repr(messages).encode()).hexdigest())
print(json.dumps(sums))
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="finds the bundled libavutil through /proc")
def test_stored_frames_and_measures_are_the_same_bytes_without_simd(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for name in RENDERINGS:
        path = tmp_path / name
        path.write_bytes(rendered(name))
        paths.append(str(path))

    def sums(kind: str) -> list[str]:
        command = [sys.executable, "-c", SCRIPT, kind, *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    native = sums("native")
    monkeypatch.setenv("JSIMD_FORCENONE", "1")  # libjpeg-turbo's own switch
    plain = sums("plain")
    exact = len(paths)
    assert dict(zip(RENDERINGS, plain[:exact], strict=True)) == dict(
        zip(RENDERINGS, native[:exact], strict=True)
    )
    # shows that the switch works: the default conversion does depend on it
    assert plain[exact:] != native[exact:]
