"""Memory and time of a build's driver while receipts of parts come in, at 10,000 parts and more.

A made-up executor hands the frame stage one receipt after the other, in an order mixed over 64 parts as
a cluster's is: 8 clips with 22 frames each (`--clips`; a build's default is 1,024), rejects in one part of
fifty. Then 200 shards of 1,024 rows,
4 clips each from anywhere, are cut from the address table. Every size runs in a process of its own.

`receipts` is what the receipts' tables take in Arrow (addresses, quality, rejects). `anonymous` is memory
that only the driver holds, its highest value before, while and after the receipts came in; `resident`
counts mapped pages of files too, which the kernel drops when it wants to. `kept` rows keep every receipt
in a list and join them, for comparison. Seconds include making the receipts up, which is half of them;
beyond 100,000 parts receipts share columns to save that time. Writes build/bench/driver.json.

    python benchmarks/bench_driver.py [--parts 10000,100000,1000000] [--clips 8] [--kept 10000]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weave_data.decode import DecodeReceipt
from weave_data.execute import Step
from weave_data.records import QUALITY_SCHEMA, StageCount, rejects_table
from weave_data.shard import ADDRESS_SCHEMA

ROOT = Path(__file__).resolve().parent.parent
FRAMES, WINDOW, CYCLE = 22, 64, 50
FRESH_PARTS = 100_000  # beyond it receipts are not unpickled each, which takes a third of the time
KEY = "0123456789abcdef" * 2
SHARDS, SHARD_ROWS, CLIPS_PER_ROW = 200, 1024, 4
MEBI = 1 << 20


class Memory:
    """Highest anonymous and resident memory of this process, looked at 50 times a second."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look(self) -> tuple[int, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith("Rss")}
        self.anonymous = max(self.anonymous, sizes["RssAnon"])
        self.resident = max(self.resident, sum(sizes.values()))
        return self.anonymous, self.resident

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.look()

    def peaks(self) -> dict[str, int]:
        """The peaks so far in MiB, and begin anew."""
        anonymous, resident = self.look()
        self.anonymous = self.resident = 0
        return {"anonymous": anonymous // MEBI, "resident": resident // MEBI}


def part_name(number: int) -> str:
    return f"clips-{number:08d}"


def clip_names(number: int, num_clips: int) -> list[str]:
    return [f"{number * num_clips + clip:010d}" for clip in range(num_clips)]


class Receipts:
    """Receipts as they come off a worker: unpickled, then given the names of their part."""

    def __init__(self, num_clips: int) -> None:
        from weave_data.decode.receipt import INDEX_SCHEMA

        self.num_clips = num_clips

        random = np.random.default_rng(0)
        row = {
            "source_frames": 450,
            "source_seconds": 15.0,
            "width": 596,
            "height": 336,
            "frame_index": sorted(random.choice(450, FRAMES, replace=False).tolist()),
            "frame_seconds": random.random(FRAMES).astype(np.float32).tolist(),
            "frame_offset": (np.arange(FRAMES) * 20_512).tolist(),
            "frame_bytes": random.integers(9_000, 20_000, FRAMES).tolist(),
            "frame_layer": ["0123456789ab"] * FRAMES,
        }
        values = dict.fromkeys(QUALITY_SCHEMA.names, 0.5) | {
            "width": 596,
            "height": 336,
            "sha256": "0" * 64,
        }
        names = clip_names(0, num_clips)
        refusal = {"stage": "decode", "part": "", "recipe": None, "clip_id": "x", "key": "x.mp4"}
        reject = rejects_table([{**refusal, "reason": "corrupt", "detail": "no frame could be decoded"}])
        for rejects in (reject.slice(0, 0), reject):
            receipt = DecodeReceipt(
                part=part_name(0),
                frames_key=KEY,
                index=pa.Table.from_pylist([{"clip_id": n, **row} for n in names], schema=INDEX_SCHEMA),
                quality=pa.Table.from_pylist(
                    [{**values, "clip_id": n} for n in names], schema=QUALITY_SCHEMA
                ),
                rejects=rejects,
                count=StageCount(
                    "decode", num_clips + len(rejects), num_clips, {}, {"corrupt": 1} if len(rejects) else {}
                ),
                files_written=2,
            )
            if len(rejects):
                self._rejecting = pickle.dumps(receipt)
            else:
                self._plain = pickle.dumps(receipt)
        self._loaded = [pickle.loads(self._pickled(number)) for number in range(CYCLE)]
        self.num_bytes = 0

    def _pickled(self, number: int) -> bytes:
        return self._rejecting if number % CYCLE == 0 else self._plain

    def of(self, number: int, *, fresh: bool = True) -> DecodeReceipt:
        """The receipt of a part; one that is not fresh shares its columns, but for clip ids, with others."""
        receipt = pickle.loads(self._pickled(number)) if fresh else self._loaded[number % CYCLE]
        names = pa.array(clip_names(number, self.num_clips))
        index = receipt.index.set_column(0, receipt.index.schema.field(0), names)
        quality = receipt.quality.set_column(0, receipt.quality.schema.field(0), names)
        self.num_bytes += index.nbytes + quality.nbytes + receipt.rejects.nbytes
        return dataclasses.replace(receipt, part=part_name(number), index=index, quality=quality)


def mixed(num_parts: int) -> Iterator[int]:
    """Part numbers, mixed within windows."""
    random = np.random.default_rng(1)
    for start in range(0, num_parts, WINDOW):
        yield from (start + random.permutation(min(WINDOW, num_parts - start))).tolist()


class MadeUpExecutor:
    """Receipts without decoding."""

    def __init__(self, receipts: Receipts, num_parts: int) -> None:
        self._receipts, self._num_parts = receipts, num_parts

    def prepare(self) -> None: ...

    def run(self, step: Step) -> Iterator[Any]:  # noqa: ARG002
        from weave_data.tasks.frames import FrameOutcome

        for number in mixed(self._num_parts):
            yield FrameOutcome(self._receipts.of(number, fresh=self._num_parts <= FRESH_PARTS))

    def close(self) -> None: ...


def spooled(receipts: Receipts, num_parts: int, folder: Path) -> Callable[[], pa.Table]:
    """Our frame stage."""
    from weave_data.catalog import Catalog
    from weave_data.config import BuildConfig, load_config
    from weave_data.pipeline.accounting import RejectBudget
    from weave_data.pipeline.frame_stage import FrameStage
    from weave_data.pipeline.progress import no_progress
    from weave_data.records import Part
    from weave_data.storage import open_source, open_store

    recipe = {"name": "l1", "strategy": "single", "frames_per_sample": 16}
    values = {
        "source": {"kind": "webvid", "catalog": f"{folder}/clips.csv", "videos": str(folder)},
        "output": f"{folder}/woven",
        "recipes": [recipe],
    }
    config = load_config(BuildConfig, values, overrides={}, origin="benchmark")
    parts = tuple(
        Part(part_name(number), receipts.num_clips + (number % 50 == 0), "0" * 64)
        for number in range(num_parts)
    )
    count = StageCount("catalog", num_parts * receipts.num_clips, num_parts * receipts.num_clips)
    catalog = Catalog("0" * 32, parts, count, "", "")
    stage = FrameStage(config, open_store(config.output), open_source(config.source.videos), catalog, folder)
    budget = RejectBudget(num_clips=sum(part.num_clips for part in parts), max_fraction=0.05)
    return lambda: stage.run(MadeUpExecutor(receipts, num_parts), budget, no_progress).addresses


def kept(receipts: Receipts, num_parts: int, folder: Path) -> Callable[[], pa.Table]:  # noqa: ARG001
    """Every receipt in a list, joined in the end."""

    def run() -> pa.Table:
        found = sorted((receipts.of(number) for number in mixed(num_parts)), key=lambda receipt: receipt.part)
        pa.concat_tables([receipt.quality for receipt in found])
        pa.concat_tables([receipt.rejects for receipt in found])
        return pa.concat_tables([receipt.addresses() for receipt in found])

    return run


def cut_shards(addresses: pa.Table) -> tuple[float, float]:
    """CPU seconds of the look-up and of each shard."""
    from weave_data.pipeline.shard_cutter import ShardCutter
    from weave_data.records import PLAN_SCHEMA
    from weave_data.shard import ShardRequest

    clips = np.random.default_rng(2).integers(0, len(addresses), SHARDS * SHARD_ROWS * CLIPS_PER_ROW)
    names = pa.array(np.char.mod("%010d", clips))
    texts = pa.array([""] * len(names))
    numbers = pa.array(np.zeros(len(names), np.int32))
    item = PLAN_SCHEMA.field("clips").type.value_type
    woven = pa.StructArray.from_arrays([names, texts, texts, numbers, numbers], fields=list(item))
    offsets = pa.array(np.arange(0, len(names) + 1, CLIPS_PER_ROW, dtype=np.int32))
    plan = pa.table({"clips": pa.ListArray.from_arrays(offsets, woven)})
    request = ShardRequest("l4/0/train/0.parquet", "train", 0, 64, "inline")
    started = time.process_time()
    cutter = ShardCutter(plan, addresses)
    lookup = time.process_time() - started
    for start in range(0, SHARDS * SHARD_ROWS, SHARD_ROWS):
        cutter.item("l4", request, start, SHARD_ROWS)
    return lookup, (time.process_time() - started - lookup) / SHARDS


def measure(way: str, num_parts: int, num_clips: int) -> dict[str, object]:
    receipts = Receipts(num_clips)
    pa.concat_tables([receipts.of(0).addresses()])  # imports and pools are paid for
    receipts.num_bytes = 0
    with tempfile.TemporaryDirectory(prefix="bench-driver-") as folder:
        run = {"spooled": spooled, "kept": kept}[way](receipts, num_parts, Path(folder))
        memory = Memory()
        before = memory.peaks()
        started, cpu = time.monotonic(), time.process_time()
        addresses = run()
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        while_in = memory.peaks()
        assert len(addresses) == num_parts * num_clips
        assert addresses.schema.names == ADDRESS_SCHEMA.names
        lookup, shard = cut_shards(addresses) if way == "spooled" else (0.0, 0.0)
        after = memory.peaks()
    return {
        "way": way,
        "parts": num_parts,
        "clips a part": num_clips,
        "seconds": round(seconds, 1),
        "CPU seconds": round(cpu, 1),
        "receipts MiB": receipts.num_bytes // MEBI,
        **{
            f"{kind} MiB": [peaks[kind] for peaks in (before, while_in, after)]
            for kind in ("anonymous", "resident")
        },
        "look-up CPU seconds": round(lookup, 2),
        "CPU ms a shard": round(1000 * shard, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default="10000,100000")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--kept", default="10000")
    parser.add_argument("--run", choices=("spooled", "kept"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options.run, int(options.parts), options.clips)))
        return
    sizes = [("spooled", size) for size in options.parts.split(",")]
    sizes += [("kept", size) for size in options.kept.split(",") if size]
    rows = []
    for way, size in sizes:
        command = [sys.executable, __file__, "--run", way, "--parts", size, "--clips", str(options.clips)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = {**json.loads(output.splitlines()[-1]), "load": round(os.getloadavg()[0], 2)}
        rows.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    target = ROOT / "build" / "bench" / "driver.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
