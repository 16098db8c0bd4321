"""`doctor` asks every host: over ssh those of a hostfile, by tasks those of a Ray cluster."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_woven_dataset
from doctor.doctored import build_config
from netns import Host, Network, virtual_hosts
from ray_hosts import ray_hosts
from ssh_hosts import REPOSITORY, ssh_hosts

pytestmark = [pytest.mark.process, pytest.mark.timeout(900), pytest.mark.xdist_group("launch")]

Rows = list[dict[str, str]]


@pytest.fixture
def network() -> Iterator[Network]:
    with virtual_hosts(2) as found:
        yield found


def findings(host: Host, *words: str, folder: Path, code: int, **environment: str) -> Rows:
    done = host.run(
        [sys.executable, "-m", *words, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    rows: Rows = json.loads(done.stdout)["findings"]
    return rows


def of(rows: Rows, check: str) -> list[tuple[str, str]]:
    return [(row["status"], row["node"]) for row in rows if row["check"] == check]


def test_hosts_of_a_hostfile_are_asked_over_ssh(network: Network, tmp_path: Path) -> None:
    disk = tmp_path / "own"
    with ssh_hosts(network.hosts, tmp_path, disk=disk) as cluster:
        first, second = network.hosts
        manifest = write_woven_dataset(tmp_path / "woven", rows=4)
        flags = ["weave_train", "doctor", "--dataset.manifest", manifest, "--model.type", "tiny"]
        flags += ["--hostfile", str(cluster.hostfile()), "--ssh", cluster.ssh]
        flags += ["--run_root_dir", str(disk / "runs")]
        lonely = cluster.disk_of(first) / "llama"
        lonely.mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (lonely / name).write_text("{}")
        weights = ["--model.llm_backbone_id", "llama2-7b-pure", "--model.llm_weights", str(disk / "llama")]
        (disk / "llama").mkdir()  # also here, or the configuration would be refused
        (disk / "llama" / "config.json").write_text("{}")
        good = findings(first, *flags, folder=tmp_path, code=0)
        assert of(good, "versions") == [("ok", "all 2")]
        assert of(good, "network")[0][0] == "ok"
        assert of(good, "run directory") == [
            ("ok", ""),
            ("warn", ""),
        ]
        bad = findings(
            first, *flags, *weights, folder=tmp_path, code=3, GLOO_SOCKET_IFNAME="eth7", NCCL_SOCKET_IFNAME=""
        )
        assert set(of(bad, "weights")) == {("ok", first.name), ("fail", second.name)}
        assert of(bad, "network") == [("fail", "all 2")] or len(of(bad, "network")) == 2
        cluster.daemons[1].kill()
        cluster.daemons[1].wait()
        gone = findings(first, *flags, folder=tmp_path, code=3)
        assert ("fail", second.name) in of(gone, "nodes")
        assert of(gone, "versions") == [("ok", "")]


@pytest.mark.slow
def test_nodes_of_a_ray_cluster_are_asked_by_tasks(network: Network, tmp_path: Path) -> None:
    head, worker = network.hosts
    other = tmp_path / "other" / "timm-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.mp4").write_bytes(b"video")
    address = {"ray_address": f"{head.address}:6379"}
    config = build_config(tmp_path, source=str(clips), output=str(tmp_path / "out"), execution=address)
    words = ("weave_data", "doctor", str(config))
    environment = {"PYTHONPATH": str(REPOSITORY)}
    with ray_hosts(network, tmp_path, cpus=(1,), environment=environment) as cluster:
        given = dict(cluster.environment)
        cluster.environment["PYTHONPATH"] = f"{other.parent}:{REPOSITORY}"  # of the node that comes
        cluster.add(worker, num_cpus=1)
        rows = findings(head, *words, folder=tmp_path, code=3, **given)
        worker.kill()
        while worker.address in cluster.alive():
            time.sleep(0.5)
        alone = findings(head, *words, folder=tmp_path, code=0, **given)
    assert of(rows, "nodes") == [("ok", "")]
    assert of(rows, "ray token") == [("ok", "")]
    assert of(rows, "codecs") == [("ok", "all 2")]
    (versions,) = [row for row in rows if row["check"] == "versions"]
    assert versions["status"] == "fail"
    assert f"0.0.1 on {worker.address}" in versions["found"]
    assert of(alone, "versions") == [("ok", "")]
