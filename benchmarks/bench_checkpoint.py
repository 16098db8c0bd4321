"""How long training stands still for a checkpoint, against a memcpy of the same bytes.

    make bench-checkpoint        or: python benchmarks/bench_checkpoint.py --gib 2 --rounds 9

Made-up masters and AdamW states in the shapes of a small Llama, on one rank. A round takes, in random
order: one plain copy of all the bytes from one flat tensor to another (`memcpy`), and one asynchronous
save (`save` until it returns, the one before being complete). Medians and their ratio; then what the
background process did, and the same save with `is_async: false`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from weave_data.storage import LocalStore
from weave_train.checkpoint.layout import newest_checkpoint
from weave_train.checkpoint.reading import restore
from weave_train.checkpoint.writer import CheckpointWriter, StepSnapshot
from weave_train.config import CheckpointConfig
from weave_train.launch import Launch


@dataclass(frozen=True)
class Held:
    name: str
    start: int
    stop: int
    weight: torch.Tensor
    states: dict[str, torch.Tensor]
    is_owned: bool = True


def llama_shapes(num_elements: int, hidden: int = 1024) -> list[tuple[int, ...]]:
    """Layers of a Llama of this width until there are enough elements."""
    layer = [(hidden, hidden)] * 4 + [(hidden * 8 // 3, hidden)] * 3 + [(hidden,)] * 2
    shapes: list[tuple[int, ...]] = [(32_000, hidden)]
    while sum(torch.Size(shape).numel() for shape in shapes) < num_elements:
        shapes += layer
    return shapes


def make_ranges(gib: float, device: str) -> list[Held]:
    ranges = []
    for index, shape in enumerate(llama_shapes(int(gib * 2**30 / 12))):
        numel = torch.Size(shape).numel()
        states = {key: torch.rand(numel, device=device) for key in ("exp_avg", "exp_avg_sq")}
        ranges.append(Held(f"layer.{index}.weight", 0, numel, torch.rand(numel, device=device), states))
    return ranges


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    launch = Launch(0, 1, 0, torch.device(device))
    ranges = make_ranges(options.gib, device)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    num_bytes = 12 * sum(piece.stop for piece in ranges)
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.zeros(num_bytes // 4, pin_memory=device == "cuda")
    writer = CheckpointWriter(LocalStore(folder), launch=launch, settings=CheckpointConfig(keep_last=1))
    begin = time.perf_counter()
    writer.reserve(ranges)
    reserved = time.perf_counter() - begin
    times: dict[str, list[float]] = {"memcpy": [], "save": [], "background": []}
    random_ = random.Random(1)

    def memcpy() -> None:
        begin = time.perf_counter()
        target.copy_(source, non_blocking=True)
        if device == "cuda":
            torch.cuda.synchronize()
        times["memcpy"].append(time.perf_counter() - begin)

    def save(step: int) -> None:
        begin = time.perf_counter()
        writer.save(StepSnapshot(step, ranges, {}, {}, {"step": step}))
        times["save"].append(time.perf_counter() - begin)
        writer.finish()
        times["background"].append(time.perf_counter() - begin)

    try:
        memcpy()
        save(1)
        for values in times.values():
            values.clear()
        for step in range(2, options.rounds + 2):
            works = [memcpy, lambda step=step: save(step)]
            random_.shuffle(works)
            for work in works:
                work()
        memory, saved, whole = (statistics.median(times[key]) for key in ("memcpy", "save", "background"))
        ratios = sorted(b / a for a, b in zip(times["memcpy"], times["save"], strict=True))
        print(f"{num_bytes / 2**30:.2f} GiB of masters and states on {device}, {len(ranges)} parameters")
        print(f"memory taken and process started in {reserved:.2f} s")
        print(f"memcpy       {memory * 1e3:8.0f} ms   {num_bytes / memory / 2**30:6.2f} GiB/s")
        print(f"save returns {saved * 1e3:8.0f} ms   {num_bytes / saved / 2**30:6.2f} GiB/s")
        print(f"ratio        {saved / memory:8.2f}      of rounds {ratios[0]:.2f} to {ratios[-1]:.2f}")
        print(f"complete     {whole * 1e3:8.0f} ms   {num_bytes / whole / 2**30:6.2f} GiB/s to disk")
        begin = time.perf_counter()
        checkpoint = newest_checkpoint(LocalStore(folder))
        assert checkpoint is not None
        restore(checkpoint, ranges)
        taken = time.perf_counter() - begin
        print(f"restored     {taken * 1e3:8.0f} ms   {num_bytes / taken / 2**30:6.2f} GiB/s checked")
    finally:
        writer.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
