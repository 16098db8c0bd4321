"""Hosts of a cluster and what they do: heads nothing, CPU nodes decode, GPU nodes embed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from host_builds import NUM_CLIPS, manifest_hash, write_config
from netns import virtual_hosts
from ray_hosts import RayHosts, ray_hosts
from servers import S3Server

pytestmark = [
    pytest.mark.server,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.xdist_group("hosts"),
]

DEADLINE_SECONDS = 900
DECODING = "Map(_Work)"
EMBEDDING = "MapWorker(Map(_Actor)).submit"


def submit(cluster: RayHosts, config: Path) -> None:
    done = cluster.run(
        ["weave-data", "submit", str(config), "--address", cluster.dashboard], timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_cpus_decode_gpus_embed_and_heads_do_neither(
    source: str, s3: S3Server, tmp_path: Path, hash_of_one_process: str
) -> None:
    with virtual_hosts(3) as network, network.store(s3) as environment:
        _, cpu_host, gpu_host = network.hosts
        logical = environment | {"WEAVE_LOGICAL_GPUS": "1"}
        with ray_hosts(network, tmp_path, cpus=(0, 1), environment=logical) as cluster:
            cluster.add(gpu_host, num_cpus=0, num_gpus=1)
            gpus: dict[str, Any] = {"gpus": 1, "gpus_per_actor": 0.5}
            config, output = write_config(tmp_path, source, s3, execution=gpus)
            submit(cluster, config)
            assert manifest_hash(output) == hash_of_one_process
            assert set(cluster.nodes_that_ran(DECODING)) == {cpu_host.address}
            embedded = cluster.nodes_that_ran(EMBEDDING)
            assert set(embedded) == {gpu_host.address}
            assert embedded[gpu_host.address] >= NUM_CLIPS
            assert {task["required_resources"].get("GPU", 0) for task in cluster.tasks(DECODING)} == {0}
