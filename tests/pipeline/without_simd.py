"""Copied as `sitecustomize.py`: the first decoder process of a build runs FFmpeg without SIMD instructions.

Every decoder process leaves a mark in WEAVE_TEST_MARKS; the first one's is `no-simd`.
"""

import ctypes
import os
import sys
from pathlib import Path

if "weave_data.decode.worker" in sys.orig_argv:
    import av

    marks = Path(os.environ["WEAVE_TEST_MARKS"])
    try:
        (marks / "no-simd").mkdir()
    except FileExistsError:
        (marks / f"simd-{os.getpid()}").mkdir()
    else:
        (library,) = (Path(av.__file__).parent.parent / "av.libs").glob("libavutil*")
        ctypes.CDLL(str(library)).av_force_cpu_flags(0)
