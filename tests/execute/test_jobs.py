"""Jobs whose head falls silent, and submissions that are interrupted before their job has a name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor.doctored import build_config
from execute.job_head import JobHead

from weave_data.errors import IncompleteError, SourceError
from weave_data.execute import JobServer, JobSpec, jobs, new_job_id

DEADLINE_SECONDS = 240


@pytest.fixture
def head() -> Iterator[JobHead]:
    with JobHead() as running:
        yield running


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "ANSWER": 1.0,
        "SUBMIT": 1.0,
        "LOST_AFTER": 2.0,
        "POLL": 0.1,
        "APPEARS": 1.0,
    }.items():
        monkeypatch.setattr(jobs, f"{name}_SECONDS", seconds)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")


@pytest.mark.timeout(120)
def test_a_head_that_takes_connections_and_never_answers_is_lost_in_time(head: JobHead) -> None:
    job = JobServer(head.address).submit(JobSpec("true"), new_job_id())
    head.silent = ("GET",)
    with pytest.raises(IncompleteError, match=rf"{job.job_id}: its server {head.address} is gone"):
        job.follow(lambda _: None)
    with pytest.raises(SourceError, match="no Ray job server answers"):
        JobServer(head.address)
    head.silent = ("POST",)
    with pytest.raises(SourceError, match="no Ray job server answers"):
        job.stop()


def test_a_job_is_stopped_by_a_name_chosen_before_it_was_submitted(head: JobHead) -> None:
    server, name = JobServer(head.address), new_job_id()
    assert server.job(name).stop() is False
    assert server.submit(JobSpec("true"), name).job_id == name
    assert server.job(name).stop() is True
    assert head.jobs == {name: "STOPPED"}


def begin(head: JobHead, folder: Path) -> subprocess.Popen[str]:
    config = build_config(folder, source=str(folder), output=str(folder / "woven"))
    return subprocess.Popen(
        [sys.executable, "-m", "weave_data", "submit", str(config), "--address", head.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stop", ["answered", "refused", "silent"])
def test_ctrl_c_during_a_submission_stops_its_job_or_says_how(
    head: JobHead, tmp_path: Path, stop: str
) -> None:
    head.silent = ("POST /api/jobs/",)
    process = begin(head, tmp_path)
    assert head.is_asked.wait(DEADLINE_SECONDS), process.communicate(timeout=5)
    (job_id,) = head.jobs
    head.silent = ("POST",) if stop == "silent" else ()
    head.refused = (f"POST /api/jobs/{job_id}/stop",) if stop == "refused" else ()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130, out + err
    assert time.monotonic() - began < 100  # 10 s on a machine of its own
    assert f"interrupted: stopping job {job_id}; " in err
    assert f"POST /api/jobs/{job_id}/stop" in head.asked
    assert (head.jobs[job_id] == "STOPPED") is (stop != "refused")
    assert (f"stop it with `ray job stop {job_id} --address {head.address}`" in err) is (stop != "answered")
    assert ("what the build said" in out) is (stop == "answered")
    assert "Traceback" not in err
