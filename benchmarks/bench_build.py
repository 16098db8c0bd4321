"""A whole build against decoding alone: clips per second of both over the same clips, in one run.

    --like small    one moving shape, 160 to 240 px, 3 s at 12 frames a second: 10 times cheaper to decode
                    than WebVid's clips, which is hard on the build
    --like webvid   596 x 336 px, 15 s at 30 frames a second, H.264 with key frames 250 apart (`bench_decode`)

`--distinct` clips are rendered once, into build/bench, and links under other ids make up the rest: every id
is read, decoded and stored for itself. The build has recipes l1 (16 frames) and l4 (4 clips of 4 frames,
clustered), embedder `none`, and runs on Ray with 2 cores. `decode` is `decode_part` over the same parts,
with the same requests, in 2 processes and no Ray, into an output of its own. Ray and the processes of
`decode` are started, and have imported what they need, before the clocks run; Ray stops after them. The two
take turns, `--rounds` times; ratios are those of the medians. CPU seconds are those of all processes, Ray's
own included: on a machine that others use too they say more than the clock. Where the build's time goes is
told by its own progress. Writes build/bench/build.json, or build-webvid.json.

    python benchmarks/bench_build.py [--like small] [--clips 2000] [--distinct N] [--rounds 1]
                                     [--part-clips auto]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
sys.path.insert(0, str(ROOT / "examples" / "demo"))

from weave_data.config import BuildConfig, load_config  # noqa: E402
from weave_data.execute import RayExecutor, RayResources, Step  # noqa: E402
from weave_data.tasks.frames import FrameWork, PartItem  # noqa: E402

CORES = 2
DISTINCT = {"small": 200, "webvid": 8}  # a clip like WebVid's takes ten seconds to render
LENGTHS = {"small": "PT00H00M03S", "webvid": "PT00H00M15S"}

if sys.dont_write_bytecode:  # processes start as those of an installed package do: with compiled modules
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(BUILD / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
# Ray's workers run at nice 15; beside other work the build would wait where decoding alone does not
os.environ.setdefault("RAY_worker_niceness", "0")


def rendered(like: str, num_distinct: int) -> list[Path]:
    """The clips, rendered by an earlier run or now."""
    folder = BUILD / f"clips-{like}-{num_distinct}"
    if not folder.exists():
        share = -(-num_distinct // CORES)
        render = {"small": render_small, "webvid": render_webvid}[like]
        with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
            places = [folder.with_name(f"{folder.name}-new") / str(core) for core in range(CORES)]
            list(pool.map(render, places, range(CORES), [share] * CORES))
        places[0].parent.rename(folder)
    return sorted(folder.rglob("*.mp4"))


def render_small(folder: Path, seed: int, num_clips: int) -> None:
    from world import render_world

    render_world(folder, num_clips=num_clips, seed=seed, size_px=(160, 240), seconds=3.0, fps=12)


def render_webvid(folder: Path, seed: int, num_clips: int) -> None:
    from bench_decode import webvid_clip

    folder.mkdir(parents=True)
    for number in range(num_clips):
        data = webvid_clip(250, seed * num_clips + number)
        (folder / f"{number:03d}.mp4").write_bytes(data)


def link_clips(folder: Path, originals: Sequence[Path], num_clips: int, length: str) -> None:
    """`clips.csv` and `videos/` with a clip under many ids."""
    from world import write_catalog

    rows = []
    for number in range(num_clips):
        key = f"{number // 50:04d}/{number:08d}.mp4"
        path = folder / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(originals[number % len(originals)])
        rows.append((f"{number:08d}", key, length, f"page{number // 50:04d}", f"clip number {number}"))
    write_catalog(folder / "clips.csv", rows)


def configuration(source: Path, output: Path, part_clips: str) -> BuildConfig:
    values: dict[str, Any] = {
        "source": {
            "kind": "webvid",
            "catalog": f"{source}/clips.csv",
            "videos": f"{source}/videos",
            "part_clips": part_clips if part_clips == "auto" else int(part_clips),
        },
        "embedding": {"model": "none"},
        "recipes": [
            {"name": "l1", "strategy": "single", "frames_per_sample": 16},
            {"name": "l4", "strategy": "clustered", "clips_per_sample": 4, "frames_per_sample": 16},
        ],
        "output": str(output),
        "execution": {"num_cpus": CORES},
    }
    return load_config(BuildConfig, values, overrides={}, origin="benchmark")


class KeptRay(RayExecutor):
    """Ray outlives the builds, as a cluster's does; `stop` it after the last."""

    def close(self) -> None:
        """Nothing stops."""

    def stop(self) -> None:
        """Shut Ray down."""
        super().close()


def run_build(config: BuildConfig, executor: RayExecutor) -> tuple[Clocks, dict[str, float]]:
    """A build, and when each of its stages was done."""
    from weave_data.pipeline.build import build

    done: dict[str, float] = {}
    clocks = Clocks()

    def note(stage: str, number: int, total: int, unit: str) -> None:  # noqa: ARG001
        done[stage] = round(time.monotonic() - clocks.started, 2)

    build(config, executor=executor, on_progress=note)
    clocks.stop()
    return clocks, done


class Clocks:
    """Seconds, and CPU seconds of this process and all below it, from the beginning to `stop`.

    A process that its parent waited for is in the parent's own count; Ray's node process does not wait for
    its workers, so theirs are looked at every two seconds and the last look counts.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        self._not_waited_for: dict[tuple[int, float], float] = {}
        self._look()
        self._before = sum(self._seen.values())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self.started = time.monotonic()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self.started
        self._stop.set()
        self._thread.join()
        self._look()
        self.cpu_seconds = sum({**self._not_waited_for, **self._seen}.values()) - self._before

    def _watch(self) -> None:
        while not self._stop.wait(2.0):
            self._look()

    def _look(self) -> None:
        self._seen = {}
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times, key = process.cpu_times(), (process.pid, process.create_time())
                self._seen[key] = times.user + times.system + times.children_user + times.children_system
                parent = process.parent()
                if parent is not None and parent.name() == "raylet":
                    self._not_waited_for[key] = self._seen[key]


_work: FrameWork | None = None


def take_work(work: FrameWork) -> None:
    global _work  # noqa: PLW0603 (one per process, as Ray keeps it)
    _work = work


def decode_one(item: PartItem) -> int:
    assert _work is not None
    return _work(item).receipt.count.num_out


def nothing(_: int) -> None:
    time.sleep(0.2)  # long enough that every process takes one


def run_decode(config: BuildConfig) -> Clocks:
    """`decode_part` over the parts of a built output's catalog."""
    from weave_data.catalog import build_catalog
    from weave_data.pipeline.frame_stage import FrameStage, part_items
    from weave_data.storage import open_source, open_store

    store = open_store(config.output)
    catalog = build_catalog(config.source, store)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(config.source.videos)
        work = FrameStage(config, store, source, catalog, Path(scratch))._work
        work = replace(work, embed_key=None, embed_here=None)
        items = part_items(catalog, None)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(CORES, context, take_work, (work,)) as pool:
            list(pool.map(nothing, range(2 * CORES)))
            clocks = Clocks()
            counts = list(pool.map(decode_one, items))
            clocks.stop()
    assert sum(counts) == catalog.count.num_out
    return clocks


def same(item: int) -> int:
    import weave_data.tasks.frames
    import weave_data.tasks.shards  # noqa: F401

    time.sleep(0.2)
    return item


def compare(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    executor = KeptRay(RayResources(num_cpus=CORES))
    list(executor.run(Step("start", list(range(4 * CORES)), same)))
    taken: dict[str, list[Clocks]] = {"build": [], "decode": []}
    stages: dict[str, float] = {}
    for number in range(options.rounds):
        for way in ("decode", "build") if number % 2 == 0 else ("build", "decode"):
            config = configuration(folder, folder / f"{way}{number}", options.part_clips)
            if way == "build":
                clocks, stages = run_build(config, executor)
            else:
                clocks = run_decode(config)
            taken[way].append(clocks)
            print(f"{way:8} {clocks.seconds:6.1f} s  {clocks.cpu_seconds:6.1f} CPU s", flush=True)
    executor.stop()
    print("build: " + ", ".join(f"{stage} done after {seconds} s" for stage, seconds in stages.items()))
    rows = []
    for unit in ("seconds", "cpu_seconds"):
        build, decode = (
            statistics.median(getattr(c, unit) for c in taken[way]) for way in ("build", "decode")
        )
        row = {
            "name": f"{options.clips} clips like {options.like}, parts of {options.part_clips}",
            "ours": round(options.clips / build, 1),
            "other": round(options.clips / decode, 1),
            "other_name": "decode_part alone",
            "ratio": round(decode / build, 3),
            "unit": f"clips/{unit}".replace("seconds", "s").replace("cpu_", "CPU "),
            "load": round(os.getloadavg()[0], 2),
        }
        rows.append(row)
        print("{name}: build {ours} {unit}, {other_name} {other}, ratio {ratio}".format(**row))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--like", choices=sorted(DISTINCT), default="small")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--distinct", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--part-clips", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-build-") as folder:
        started = time.monotonic()
        originals = rendered(options.like, options.distinct or DISTINCT[options.like])
        link_clips(Path(folder), originals, options.clips, LENGTHS[options.like])
        print(f"{options.clips} clips are there after {time.monotonic() - started:.0f} s", flush=True)
        rows = compare(Path(folder), options)
    target = BUILD / ("build.json" if options.like == "small" else f"build-{options.like}.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
