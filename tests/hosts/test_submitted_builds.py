"""Builds submitted to a Ray cluster of two hosts, with a real object store for both."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from host_builds import NUM_CLIPS, manifest_hash, num_parts, wait_until, write_config
from netns import Host, virtual_hosts
from ray_hosts import RAY, Node, RayHosts, ray_hosts
from servers import S3Server

pytestmark = [
    pytest.mark.server,
    pytest.mark.process,
    pytest.mark.xdist_group("hosts"),
    pytest.mark.timeout(3000),
]

DEADLINE_SECONDS = 900
RUNTIME_ENV = str(Path(__file__).resolve().parents[2] / "cluster_configs" / "runtime_env.yaml")
PARTS = "Map(_Work)"


@pytest.fixture(scope="module")
def cluster(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHosts]:
    folder = tmp_path_factory.mktemp("cluster")
    with (
        virtual_hosts(2) as network,
        network.store(s3) as environment,
        ray_hosts(network, folder, cpus=(1, 1), environment=environment) as running,
    ):
        yield running


def submit(cluster: RayHosts, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["weave-data", "submit", *map(str, words), "--address", cluster.dashboard]
    return cluster.run(command, timeout=DEADLINE_SECONDS, **variables)


def begin(cluster: RayHosts, *words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["weave-data", "submit", *map(str, words), "--address", cluster.dashboard],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cluster.outside(),
        start_new_session=True,
    )  # fmt: skip


def asked(cluster: RayHosts, path: str) -> str:
    request = urllib.request.Request(
        f"{cluster.dashboard}{path}",
        headers={"Authorization": f"Bearer {cluster.environment['RAY_AUTH_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(reply.read().decode())


def driver(cluster: RayHosts) -> psutil.Process:
    """The process of the build on the head."""
    for pid in cluster.nodes[0].host.process_ids():
        process = psutil.Process(pid)
        if process.cmdline()[1:3] == [shutil.which("weave-data", path=cluster.environment["PATH"]), "build"]:
            return process
    raise AssertionError("no driver runs")


def part_workers(node: Node) -> list[psutil.Process]:
    """Processes of a node that decode a part at this moment."""
    found = []
    for pid in node.host.process_ids():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process] if process.cmdline()[:1] == [f"ray::{PARTS}"] else []
    return found


def hold_still(node: Node, held: list[psutil.Process]) -> bool:
    """Suspend who decodes a part; False where nobody did, or who did had just ended."""
    for process in part_workers(node):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            held.append(process)
    return bool(part_workers(node))


def test_a_submitted_build_works_on_both_hosts_and_gives_the_manifest_of_one_process(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    done = submit(cluster, config, "--runtime-env", RUNTIME_ENV)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "l4: 6 samples in 2 shards" in done.stdout
    assert manifest_hash(output) == hash_of_one_process
    ran = cluster.nodes_that_ran(PARTS)
    assert set(ran) == {node.host.address for node in cluster.nodes}
    assert sum(ran.values()) >= NUM_CLIPS
    listed = asked(cluster, "/api/jobs/")
    assert f"weave-data build {config.name}" in listed
    for secret in (s3.secret_key, cluster.environment["RAY_AUTH_TOKEN"]):
        assert secret not in listed + done.stdout + done.stderr


@pytest.mark.slow
def test_plain_ray_job_submit_of_a_build_does_as_well(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    words = ["--address", cluster.dashboard, "--working-dir", str(tmp_path), "--runtime-env", RUNTIME_ENV]
    done = cluster.run(
        [RAY, "job", "submit", *words, "--", "weave-data", "build", config.name], timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert manifest_hash(output) == hash_of_one_process


@pytest.mark.slow
def test_the_exit_code_of_the_build_is_the_exit_code_here(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path
) -> None:
    config, output = write_config(tmp_path, source, s3)
    lost = submit(cluster, config, f"source.catalog={source}/nowhere.csv")
    assert lost.returncode == 3, lost.stdout + lost.stderr
    assert "nowhere.csv" in lost.stdout
    assert submit(cluster, config, "source.limt=3").returncode == 2
    assert submit(cluster, config, "output=woven").returncode == 2
    refused = submit(cluster, config, RAY_AUTH_TOKEN="wrong")
    assert refused.returncode == 3
    assert "refuses us" in refused.stderr
    away = cluster.run(
        ["weave-data", "submit", str(config), "--address", f"{cluster.dashboard}1"], timeout=DEADLINE_SECONDS
    )
    assert away.returncode == 3
    assert "no Ray job server answers" in away.stderr
    assert num_parts(output) == 0


@pytest.mark.slow
def test_a_job_that_nobody_waits_for_goes_on(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path
) -> None:
    config, output = write_config(tmp_path, source, s3)
    done = submit(cluster, config, "--limit", "4", "--no-wait")
    assert done.returncode == 0, done.stderr
    follow = done.stdout.splitlines()[0].removeprefix("follow it: ")
    followed = cluster.run(follow.split(), timeout=DEADLINE_SECONDS)
    assert "files written" in followed.stdout
    assert num_parts(output) == 4


@pytest.mark.slow
def test_ctrl_c_stops_the_job_within_ten_seconds_and_the_same_command_resumes(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    process = begin(cluster, config)
    wait_until(lambda: num_parts(output) >= 2 or process.poll() is not None, "the middle of the build")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, out + err
    assert f"continue with: weave-data submit {config}" in err
    assert "interrupted; known to be committed: " in out  # the build's own farewell
    assert "Traceback" not in out + err
    assert 2 <= num_parts(output) < NUM_CLIPS
    again = submit(cluster, config)
    assert again.returncode == 0, again.stdout + again.stderr
    assert " 0 reused" not in again.stdout
    assert manifest_hash(output) == hash_of_one_process


@pytest.mark.slow
def test_a_driver_killed_in_the_middle_is_told_and_the_same_command_resumes(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    process = begin(cluster, config)
    wait_until(lambda: num_parts(output) >= 2 or process.poll() is not None, "the middle of the build")
    driver(cluster).kill()
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 128 + signal.SIGKILL, out + err
    there = num_parts(output)
    assert 2 <= there < NUM_CLIPS
    again = submit(cluster, config)
    assert again.returncode == 0, again.stdout + again.stderr
    assert manifest_hash(output) == hash_of_one_process


def lose_second_host(cluster: RayHosts, config: Path, output: str, lose: Callable[[Host], None]) -> Host:
    """Lose it in the middle of a build, which goes on, ends and repeats that host's parts alone; the host."""
    before = {task["job_id"] for task in cluster.tasks(PARTS)}
    process = begin(cluster, config)
    lost = cluster.nodes[1].host
    wait_until(lambda: num_parts(output) >= 6 or process.poll() is not None, "the middle of the build")
    lose(lost)
    try:
        assert 6 <= num_parts(output) < NUM_CLIPS
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, out + err
        assert cluster.alive() == {cluster.nodes[0].host.address}
        attempts = [task for task in cluster.tasks(PARTS) if task["job_id"] not in before]
    finally:
        lost.kill()
        lost.plug()
    cluster.nodes.pop()
    assert_nothing_is_repeated_but_the_work_of(lost, attempts)
    return lost


def assert_nothing_is_repeated_but_the_work_of(lost: Host, attempts: list[dict[str, Any]]) -> None:
    """Every part was worked on once, but for those whose earlier attempts were on the host that is lost."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for attempt in sorted(attempts, key=lambda task: int(task["attempt_number"])):
        by_task.setdefault(attempt["task_id"], []).append(attempt)
    assert len(by_task) >= NUM_CLIPS, sorted(by_task)  # shards are written by tasks of the same name
    for tries in by_task.values():
        assert tries[-1]["state"] == "FINISHED", tries
        assert {attempt["address"] for attempt in tries[:-1]} <= {lost.address}, tries
    elsewhere = Counter(attempt["address"] for attempt in attempts)
    assert elsewhere[lost.address] >= 1, elsewhere


@pytest.mark.slow
def test_a_build_goes_on_without_a_node_that_is_killed_in_its_middle(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    lost = lose_second_host(cluster, config, output, Host.kill)
    assert manifest_hash(output) == hash_of_one_process
    cluster.add(lost, num_cpus=1)


@pytest.mark.slow
def test_a_build_goes_on_without_a_host_whose_cable_is_pulled(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    lost = lose_second_host(cluster, config, output, Host.unplug)
    assert manifest_hash(output) == hash_of_one_process
    cluster.add(lost, num_cpus=1)


@pytest.mark.slow
def test_a_node_that_joins_a_running_build_takes_its_share(
    cluster: RayHosts, source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    config, output = write_config(tmp_path, source, s3)
    joining = cluster.nodes.pop().host
    joining.kill()
    wait_until(lambda: joining.address not in cluster.alive(), "the head's notice of a lost node")
    before = {task["job_id"] for task in cluster.tasks(PARTS)}
    process = begin(cluster, config)
    wait_until(lambda: num_parts(output) >= 2 or process.poll() is not None, "the middle of the build")
    busy: list[psutil.Process] = []
    wait_until(lambda: hold_still(cluster.nodes[0], busy), "work on the first node")
    try:  # what is done from here on, the other node does
        cluster.add(joining, num_cpus=1)
        done = num_parts(output)
        wait_until(lambda: num_parts(output) > done + 2 or process.poll() is not None, "work on the new node")
    finally:
        for worker in busy:
            worker.resume()
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, out + err
    assert manifest_hash(output) == hash_of_one_process
    shares = Counter(
        task["address"]
        for task in cluster.tasks(PARTS)
        if task["job_id"] not in before and task["state"] == "FINISHED"
    )
    assert shares[joining.address] >= 2, shares
    assert shares[cluster.nodes[0].host.address] >= 2, shares
