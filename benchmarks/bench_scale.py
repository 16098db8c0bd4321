"""Groups, near duplicates and the plan at 100,000 and 1,000,000 clips: seconds, CPU seconds, memory.

Vectors are synthetic, 512-d, unit length, stored as float16 and read through a memory map. Clip i
belongs to one of n / 100 (at least 100) centres, uniform on the sphere, chosen with weights
1 / rank**0.5; its vector is centre + noise of length 0.8 in a uniform direction, normalised. One clip in
fifty is a copy of an earlier one of its block, moved by noise of length 0.1 (cosine about 0.995). Ids are
`clip-` and a hash, so that their order says nothing about the centre.

Every stage runs in a process of its own: `peak MB` is that process's largest resident set, mapped pages
of the vectors included. The exponent is log(t2 / t1) / log(n2 / n1) of CPU seconds, so other work on
the machine changes it little. `recall` is the share of pairs, of 4e8 / n clips with any other by brute
force, that near duplicates join. Writes build/bench/scale.json.

    python benchmarks/bench_scale.py [--clips 100000,1000000] [--stages groups,diverse,duplicates,plan]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
DIM, NOISE, COPY_NOISE, COPY_SHARE, BLOCK = 512, 0.8, 0.1, 0.02, 10_000
STAGES = ("groups", "epoch", "diverse", "apart", "duplicates", "plan")
CLIPS_PER_GROUP, MIN_COSINE = 4, 0.95
CHECKED_PRODUCTS = 400_000_000  # 20,000 clips against 20,000, 400 against a million


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def vectors_of(num_clips: int) -> npt.NDArray[np.float16]:
    """A memory map of the vectors, written on first use."""
    path = BUILD / f"vectors-{num_clips}.f16"
    shape = (num_clips, DIM)
    if not path.exists():
        random = np.random.default_rng(num_clips)
        num_centres = max(num_clips // 100, 100)
        centres = unit(random.standard_normal((num_centres, DIM), dtype=np.float32))
        weights = 1 / np.arange(1, num_centres + 1) ** 0.5
        written = np.memmap(path.with_suffix(".part"), dtype=np.float16, mode="w+", shape=shape)
        for start in range(0, num_clips, BLOCK):
            size = min(BLOCK, num_clips - start)
            labels = random.choice(num_centres, size, p=weights / weights.sum())
            block = centres[labels] + NOISE * unit(random.standard_normal((size, DIM), dtype=np.float32))
            copies = random.choice(size, int(size * COPY_SHARE), replace=False)
            moved = unit(block[random.integers(0, size, len(copies))])
            block[copies] = moved + COPY_NOISE * unit(
                random.standard_normal((len(copies), DIM), dtype=np.float32)
            )
            written[start : start + size] = unit(block)
        written.flush()
        path.with_suffix(".part").rename(path)
    return np.memmap(path, dtype=np.float16, mode="r", shape=shape)


def clip_ids_of(num_clips: int) -> pa.Array:
    scrambled = (np.arange(num_clips, dtype=np.uint64) * np.uint64(11400714819323198485)) >> np.uint64(20)
    return pa.array([f"clip-{number:011x}" for number in scrambled.tolist()])


def grouped(num_clips: int, strategy: str, **settings: object) -> dict[str, object]:
    from weave_data.cluster import group_splits, mean_pair_cosine, random_pair_cosine

    clip_ids, vectors = clip_ids_of(num_clips), vectors_of(num_clips)
    start = clocks()
    found = group_splits(
        clip_ids,
        vectors,
        splits=pa.repeat("train", num_clips),
        strategy=strategy,
        clips_per_group=CLIPS_PER_GROUP,
        seed=7,
        remainder="drop",
        **settings,
    )
    spent = elapsed(start)
    assert len(found.table) + len(found.dropped) == num_clips
    spent["peak MB"] = peak_mb()
    return {
        **spent,
        "left over": len(found.dropped),
        "mean pair cosine": round(mean_pair_cosine(found.table, clip_ids, vectors), 4),
        "chance": round(random_pair_cosine(vectors), 4),
    }


def run_groups(num_clips: int) -> dict[str, object]:
    return grouped(num_clips, "clustered")


def run_epoch(num_clips: int) -> dict[str, object]:
    return grouped(num_clips, "clustered", epoch=1)


def run_diverse(num_clips: int) -> dict[str, object]:
    return grouped(num_clips, "diverse")


def run_apart(num_clips: int) -> dict[str, object]:
    """Clustered, with pages of 50 clips in a row of the catalog that never share a group."""
    return grouped(num_clips, "clustered", labels=np.arange(num_clips) // 50)


def run_duplicates(num_clips: int) -> dict[str, object]:
    from weave_data.cluster import near_duplicates

    clip_ids, vectors = clip_ids_of(num_clips), vectors_of(num_clips)
    start = clocks()
    found = near_duplicates(clip_ids, vectors, min_cosine=MIN_COSINE)
    spent = {**elapsed(start), "peak MB": peak_mb(), "duplicates": len(found)}
    num_pairs, num_joined = pairs_joined(found, clip_ids, vectors)
    return {**spent, "pairs checked": num_pairs, "recall": round(num_joined / max(num_pairs, 1), 4)}


def pairs_joined(found: pa.Table, clip_ids: pa.Array, vectors: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Pairs of some clips with any clip, by brute force, and how many of them share a component."""
    place = pc.index_in(clip_ids, value_set=found["clip_id"].combine_chunks())
    original = found["duplicate_of"].combine_chunks().take(place)
    component = pc.coalesce(original, clip_ids).dictionary_encode().indices.to_numpy()
    num_clips = len(vectors)
    asked = np.random.default_rng(0).choice(
        num_clips, min(CHECKED_PRODUCTS // num_clips, num_clips), replace=False
    )
    queries = unit(vectors[asked].astype(np.float32))
    num_pairs = num_joined = 0
    for start in range(0, num_clips, BLOCK):
        block = unit(vectors[start : start + BLOCK].astype(np.float32))
        near, other = np.nonzero(queries @ block.T >= MIN_COSINE + 1e-3)  # quantised cosines may be less
        is_pair = asked[near] != start + other
        left, right = asked[near[is_pair]], start + other[is_pair]
        num_pairs += len(left)
        num_joined += int((component[left] == component[right]).sum())
    return num_pairs, num_joined


def run_plan(num_clips: int) -> dict[str, object]:
    """A plan of `num_clips` rows, L = 1, so of as many clips."""
    from weave_data.cluster import group_splits
    from weave_data.config import RecipeConfig
    from weave_data.records import clips_table
    from weave_data.weave import make_plan

    clip_ids = clip_ids_of(num_clips)
    recipe = RecipeConfig(name="l1", strategy="single", clips_per_sample=1, frames_per_sample=16)
    texts = [f"a short caption of some forty letters {number:08d}" for number in range(num_clips)]
    clips = clips_table(
        {
            "clip_id": clip_ids,
            "key": pa.array([f"{number:04d}/{number:08d}.mp4" for number in range(num_clips)]),
            "caption": pa.array(texts),
            "size_bytes": np.arange(num_clips),
        }
    )
    lengths = np.random.default_rng(0).integers(100, 900, num_clips)
    frames = pa.table(
        {
            "clip_id": clip_ids,
            "source_frames": pa.array(lengths.astype(np.int32)),
            "source_seconds": pa.array((lengths / 25).astype(np.float32)),
        }
    )
    del texts
    groups = group_splits(
        clip_ids,
        None,
        splits=pa.repeat("train", num_clips),
        strategy="single",
        clips_per_group=1,
        seed=0,
        remainder="drop",
    ).table
    before = peak_mb()
    start = clocks()
    plan = make_plan(recipe, clips=clips, frames=frames, groups=groups)
    assert len(plan) == num_clips
    return {**elapsed(start), "peak MB": peak_mb(), "inputs MB": before, "plan MB": plan.nbytes >> 20}


RUNS = {
    "groups": run_groups,
    "epoch": run_epoch,
    "diverse": run_diverse,
    "apart": run_apart,
    "duplicates": run_duplicates,
    "plan": run_plan,
}


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def elapsed(start: tuple[float, float]) -> dict[str, object]:
    wall, cpu = (round(now - then, 2) for now, then in zip(clocks(), start, strict=True))
    return {"seconds": wall, "CPU seconds": cpu}


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def in_process(stage: str, num_clips: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--clips", str(num_clips), "--run", stage]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {"stage": stage, "clips": num_clips, **json.loads(output.splitlines()[-1])}


def print_exponents(rows: list[dict[str, object]]) -> None:
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        for small, large in itertools.pairwise(mine):
            ratio = float(str(large["CPU seconds"])) / float(str(small["CPU seconds"]))
            growth = float(str(large["clips"])) / float(str(small["clips"]))
            print(f"{stage:10} {small['clips']} -> {large['clips']}: exponent {math.log(ratio, growth):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", default="100000,1000000")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--run", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.clips.split(",")]
    if options.run:
        print(json.dumps(RUNS[options.run](sizes[0])))
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    rows = []
    for stage in options.stages.split(","):
        for size in sizes:
            if stage != "plan":
                vectors_of(size)
            row = {**in_process(stage, size), "load": round(os.getloadavg()[0], 2)}
            rows.append(row)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print_exponents(rows)
    target = BUILD / "scale.json"
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
