"""The S3 server itself goes away in the middle and comes back: work waits and ends as if it had not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_runs import contents, finished, manifests, start, upload
from builders import write_woven_dataset
from expected_ledgers import expected_ledgers
from faults_world import Undisturbed, render_small_world, write_small_config
from s3server.faults import FaultProxy
from servers import SCRIPTS, S3Server, S3UnavailableError, start_s3, stop_s3
from training_runs import Training, column, wait_for_steps

from weave_data.shard import verify_output
from weave_data.storage import open_store

pytestmark = [pytest.mark.server, pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def own_ceph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, Path]]:
    """A server that nobody else uses, and the folder it lies in."""
    folder = tmp_path / "s3"
    try:
        server = start_s3(folder, require_ceph=True)
    except S3UnavailableError as error:
        pytest.skip(f"needs a Ceph of its own: {error}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield server, folder / "ceph"
    finally:
        stop_s3(folder)


def restart(folder: Path) -> float:
    """Seconds in which nobody answered."""
    begin = time.monotonic()
    done = subprocess.run(
        [SCRIPTS / "ceph-restart", folder], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begin


@pytest.mark.parametrize("in_process", [True, False], ids=["in_process", "ray"])
def test_a_build_outlasts_a_restart_of_ceph(
    undisturbed: Undisturbed, own_ceph: tuple[S3Server, Path], tmp_path: Path, in_process: bool
) -> None:
    server, folder = own_ceph
    render_small_world(tmp_path / "world")
    source = upload(tmp_path / "world", server, server.new_bucket(), "webvid")
    output = f"s3://{server.new_bucket()}/woven"
    config = write_small_config(tmp_path, source, output, in_process=in_process)
    with FaultProxy(server.endpoint) as counting:  # how far the build is
        process = start(config, AWS_ENDPOINT_URL=counting.endpoint)
        deadline = time.monotonic() + 300
        while not any("/frames/" in path for _, path, _ in counting.requests):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        away = restart(folder)
        finished(process)
    assert away > 1
    assert manifests(output) == undisturbed.manifests
    assert contents(output) == undisturbed.contents
    verify_output(open_store(output, readonly=True))


def test_a_run_with_rows_and_checkpoints_on_s3_outlasts_a_restart_of_ceph(
    own_ceph: tuple[S3Server, Path], tmp_path: Path
) -> None:
    server, folder = own_ceph
    manifest = write_woven_dataset(
        f"s3://{server.new_bucket()}/woven", rows=45, clips_per_sample=2, frames_per_sample=4
    )
    training = Training(manifest, tmp_path / "runs")
    flags = (
        *("--max_steps", "150", "--save_every_steps", "5", "--num_ranks", "2"),
        *("--feed.max_memory_mib", "1"),  # rows are asked for again and again
        *("--checkpoint.uri", f"s3://{server.new_bucket()}/run"),
    )
    process = training.begin("restarted", *flags)
    wait_for_steps(training.root / "restarted", 4, process)
    restart(folder)
    steps_then = len(column(training.root / "restarted", "Step"))
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert steps_then < 150, "the run was over before the server was back"
    assert column(training.root / "restarted", "Step") == list(range(1, 151))
    assert column(training.root / "restarted", "Ledger") == expected_ledgers(training, *flags, num_steps=150)
