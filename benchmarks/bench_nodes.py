"""Whether a node that joins a running build speeds it up.

    python benchmarks/bench_nodes.py [--clips 150] [--seconds 8]        root, iproute2

A build is submitted to a Ray cluster of one node with one CPU, in a network namespace of its own, over clips
in a real object store (Ceph where it can be had). After a third of its parts a second node joins. Given is
the rate of parts before that and from the new node's first part on, by Ray's record of its tasks. Both nodes
are this machine: two quiet cores are what the second one adds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parent),
    *(str(HERE.parent / name) for name in ("tests", "tests/hosts", "examples/demo")),
]

from host_builds import host_settings, num_parts, wait_until  # noqa: E402
from netns import virtual_hosts  # noqa: E402
from ray_hosts import RayHosts, ray_hosts  # noqa: E402
from servers import S3Server, start_s3, stop_s3  # noqa: E402
from world import render_world  # noqa: E402

PARTS = "Map(_Work)"


def upload(s3: S3Server, folder: Path) -> str:
    bucket = s3.new_bucket()
    for path in folder.rglob("*.*"):
        s3.client().upload_file(str(path), bucket, f"webvid/{path.relative_to(folder)}")
    return f"s3://{bucket}/webvid"


def rates(cluster: RayHosts, count: int, joined_at: float, joining: str) -> tuple[float, float, Counter[str]]:
    """Parts a second before and after, and how many each node took."""
    ended = sorted(
        (task["end_time_ms"] / 1e3, task["address"])
        for task in cluster.tasks(PARTS)
        if task["state"] == "FINISHED"
    )[:count]  # shards follow
    before = [at for at, _ in ended if at < joined_at]
    first = next(at for at, address in ended if address == joining)
    after = [at for at, _ in ended if at >= first]
    # the slowest start of either is not its rate
    early = (len(before) - 1) / (before[-1] - before[0])
    late = (len(after) - 1) / (after[-1] - after[0])
    return early, late, Counter(address for _, address in ended)


def measure(folder: Path, s3: S3Server, options: argparse.Namespace) -> None:
    world = folder / "world"
    render_world(world, num_clips=options.clips, seed=5, size_px=(336, 448), seconds=options.seconds)
    output = f"s3://{s3.new_bucket()}/woven"
    values = host_settings(upload(s3, world), output)
    values["frames"] = {"short_side_px": 336}
    config = folder / "weave.yaml"
    config.write_text(json.dumps(values))
    with virtual_hosts(2) as network, network.store(s3) as environment:
        first, second = network.hosts[:2]
        with ray_hosts(network, folder, cpus=(1,), environment=environment) as cluster:
            build = subprocess.Popen(
                ["weave-data", "submit", str(config), "--address", cluster.dashboard],
                env=cluster.outside(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            wait_until(lambda: num_parts(output) >= options.clips // 3 or build.poll() is not None, "a third")
            cluster.add(second, num_cpus=1)
            joined_at = time.time()
            said, _ = build.communicate(timeout=1200)
            assert build.returncode == 0, said
            early, late, taken = rates(cluster, options.clips, joined_at, second.address)
    print(f"{options.clips} parts of a clip of {options.seconds:g} s, load {os.getloadavg()[0]:.1f}")
    print(f"one node {early:.2f} parts/s, two nodes {late:.2f}: {late / early:.2f} times as many")
    print(f"parts of the first node {taken[first.address]}, of the one that joined {taken[second.address]}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        s3 = start_s3(folder / "s3", require_ceph=False)
        os.environ.update(s3.environment)
        try:
            measure(folder, s3, options)
        finally:
            stop_s3(folder / "s3")


if __name__ == "__main__":
    main()
