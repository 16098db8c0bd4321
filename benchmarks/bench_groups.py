"""Mean pair cosine of our groups against k-means-constrained and against exact matching.

The vectors are synthetic: clusters with power-law weights on the sphere, noise of length 0.8. All
tools get the same vectors and take turns, one draw of vectors after the other; figures are means over
draws. k-means-constrained runs with every size fixed to L. Writes build/bench/groups.json; its rows
of unit `seconds` are process time, the rest mean pair cosine.

    python benchmarks/bench_groups.py [--clips 2000] [--draws 2] [--starts 1] [--sizes 2,4,8,16]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from k_means_constrained import KMeansConstrained

from weave_data.cluster import group_splits, mean_pair_cosine, random_pair_cosine
from weave_data.records import GROUP_SCHEMA

ROOT = Path(__file__).resolve().parent.parent
GROUP_SIZES = "2,4,8,16"
DIM, NUM_CLUSTERS, NOISE = 64, 50, 0.8
MATCHING_CLIPS = "200,400"

Vectors = npt.NDArray[np.float32]
Tool = Callable[[Vectors, int], pa.Table]


def cloud(num_clips: int, seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, NUM_CLUSTERS + 1)
    centres = unit(random.standard_normal((NUM_CLUSTERS, DIM)))
    labels = random.choice(NUM_CLUSTERS, num_clips, p=weights / weights.sum())
    return unit(centres[labels] + NOISE * unit(random.standard_normal((num_clips, DIM)))).astype(np.float32)


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names(num_clips: int) -> pa.Array:
    return pa.array([f"{index:07d}" for index in range(num_clips)])


def ours(vectors: Vectors, clips_per_group: int) -> pa.Table:
    return group_splits(
        names(len(vectors)),
        vectors,
        splits=pa.repeat("train", len(vectors)),
        strategy="clustered",
        clips_per_group=clips_per_group,
        seed=7,
        remainder="drop",
    ).table


def constrained_k_means(starts: int) -> Tool:
    def group(vectors: Vectors, clips_per_group: int) -> pa.Table:
        model = KMeansConstrained(
            n_clusters=len(vectors) // clips_per_group,
            size_min=clips_per_group,
            size_max=clips_per_group,
            n_init=starts,
            random_state=0,
        )
        return as_table(model.fit(vectors).labels_)

    return group


def exact_matching(vectors: Vectors, clips_per_group: int) -> pa.Table:
    assert clips_per_group == 2
    cosines = vectors.astype(np.float64) @ vectors.T
    graph = nx.Graph()
    pairs = itertools.combinations(range(len(vectors)), 2)
    graph.add_weighted_edges_from((a, b, cosines[a, b]) for a, b in pairs)
    labels = np.empty(len(vectors), dtype=np.int64)
    for index, pair in enumerate(nx.max_weight_matching(graph, maxcardinality=True)):
        labels[list(pair)] = index
    return as_table(labels)


def as_table(labels: npt.NDArray[np.integer]) -> pa.Table:
    """GROUP_SCHEMA of a label per clip."""
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    columns = [
        pa.array(labels[order].astype(np.int64)),
        pa.array((np.arange(len(order)) - np.repeat(starts, sizes)).astype(np.int16)),
        names(len(labels)).take(pa.array(order)),
        pa.array(np.full(len(order), -1, dtype=np.int32)),
        pa.array(["train"] * len(order)),
    ]
    return pa.Table.from_arrays(columns, schema=GROUP_SCHEMA)


def measure(tool: Tool, vectors: Vectors, clips_per_group: int) -> tuple[float, float]:
    """Mean pair cosine and seconds of process time."""
    start = time.process_time()
    table = tool(vectors, clips_per_group)
    seconds = time.process_time() - start
    sizes = table.group_by("group_index").aggregate([("slot", "count")])["slot_count"]
    assert set(sizes.to_pylist()) == {clips_per_group}
    return mean_pair_cosine(table, names(len(vectors)), vectors), seconds


def compare(
    other: Tool, other_name: str, *, num_clips: int, clips_per_group: int, draws: int
) -> list[dict[str, object]]:
    found = []
    for draw in range(draws):
        vectors = cloud(num_clips, draw)
        tools = (ours, other) if draw % 2 == 0 else (other, ours)
        results = [measure(tool, vectors, clips_per_group) for tool in tools]
        found.append(results if draw % 2 == 0 else results[::-1])
        chance = random_pair_cosine(vectors)
    (cosine, seconds), (other_cosine, other_seconds) = np.mean(found, axis=0)
    name = f"n = {num_clips}, L = {clips_per_group}"
    load = round(os.getloadavg()[0], 2)
    print(
        f"{name:16} ours {cosine:.4f} in {seconds:5.1f} s   {other_name:22} {other_cosine:.4f} "
        f"in {other_seconds:5.1f} s   x{cosine / other_cosine:.3f}   chance {chance:.3f}",
        flush=True,
    )
    both = [
        ("mean pair cosine", cosine, other_cosine, cosine / other_cosine),
        ("seconds", seconds, other_seconds, other_seconds / seconds),
    ]
    return [
        {
            "name": name,
            "ours": round(mine, 4),
            "other": round(theirs, 4),
            "other_name": other_name,
            "ratio": round(ratio, 4),
            "unit": measured,
            "load": load,
        }
        for measured, mine, theirs, ratio in both
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--starts", type=int, default=1, help="n_init of k-means-constrained")
    parser.add_argument("--sizes", default=GROUP_SIZES, help="L against k-means-constrained")
    parser.add_argument(
        "--matching", default=MATCHING_CLIPS, help="clips against exact matching; '' for none"
    )
    options = parser.parse_args()
    rows = []
    for num_clips in map(int, filter(None, options.matching.split(","))):
        rows += compare(
            exact_matching, "exact matching", num_clips=num_clips, clips_per_group=2, draws=options.draws
        )
    for clips_per_group in map(int, options.sizes.split(",")):
        rows += compare(
            constrained_k_means(options.starts),
            "k-means-constrained",
            num_clips=options.clips // clips_per_group * clips_per_group,
            clips_per_group=clips_per_group,
            draws=options.draws,
        )
    target = ROOT / "build" / "bench" / "groups.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
