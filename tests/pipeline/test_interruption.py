"""Ctrl-C: exit code 130, what is committed stays, and the same command resumes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_builds import settings

from weave_data.shard import verify_output
from weave_data.storage import open_store

DEADLINE_SECONDS = 600
ENDING_SECONDS = 100.0
"""Ten times what is promised: tests share their machine."""

FAREWELL = (
    r"interrupted; known to be committed: .+\. It stays, and the same command resumes: weave-data build .+"
)


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "weave_data", "build", str(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
@pytest.mark.parametrize("in_process", [True, False], ids=["in_process", "ray"])
def test_an_interrupted_build_says_so_and_the_same_command_resumes(
    rendered: Path, tmp_path: Path, in_process: bool
) -> None:
    values = settings(str(rendered), str(tmp_path / "woven"))
    values["source"]["part_clips"] = 2
    values["execution"] = {"in_process": in_process, "num_cpus": 1}
    config = tmp_path / "build.yaml"
    config.write_text(json.dumps(values))
    process = start(config)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list((tmp_path / "woven" / "frames").rglob("*.tar")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert time.monotonic() - began < ENDING_SECONDS
    assert process.returncode == 130, out + err
    assert re.search(FAREWELL, err), err
    assert "Traceback" not in err
    assert not list((tmp_path / "woven").glob("*/manifest.json"))
    again = start(config)
    out, err = again.communicate(timeout=DEADLINE_SECONDS)
    assert again.returncode == 0, out + err
    assert "0 reused" not in out
    verify_output(open_store(str(tmp_path / "woven")))
