"""How much of a GPU a training step uses: Llama-2-7B and CLIP ViT-L/14-336 by shape, random weights, bf16.

    python benchmarks/gpu_train.py [--setups A B C] [--frames 8 16] [--json FILE]
    python benchmarks/gpu_train.py --tiny          a smoke test, on a CPU if there is no GPU

    A            LoRA r = 64 on the language model's linear layers and the projector; no recompute
    A-deepspeed  the same through the trainer's own engine (DeepSpeed ZeRO-2)
    B            all of the language model and the projector; fp32 masters and AdamW states in host memory,
                 whose step the CPU takes after 16 micro-steps; as little recompute as fits
    C            the same on the GPU alone; every n-th decoder layer is recomputed, as few as fit;
                 masters and states fp32, or all bf16 (and said) where the GPU is too small for that

The tower is frozen in all. One row a micro-step, hence no padding; flash attention and no other kernel;
logits only at supervised positions; fused AdamW. Batches lie on the device before the clock starts:
data-wait is 0 by construction. MFU and HFU follow `weave_train/numbers/flops.py`; with recompute of a share
of the layers, hardware FLOPs lie between none and all by that share. Each cell is a process of its own.

Needs torch, transformers, timm and peft (deepspeed for A-deepspeed only), numpy, pillow, pyarrow, pydantic
and ruamel.yaml; run it from a checkout, nothing needs to be installed from it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import gpu_train_parts as parts  # noqa: E402
import torch  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from weave_train.launch import Launch, detect_launch  # noqa: E402
from weave_train.models.model import VideoLanguageModel  # noqa: E402
from weave_train.numbers.flops import Flops, flops_model  # noqa: E402
from weave_train.numbers.peaks import device_peak, utilization  # noqa: E402

LEARNING_RATE = 1e-5
LORA_RANK = 64
GIB = 2**30
FP32_STATES_BYTES = 2 + 4 + 12  # a weight, its gradient sum, master and two moments
SPARE_BYTES = 12 * GIB  # tower, boundaries of recomputed layers, one layer's activations, logits
PACKAGES = ("torch", "transformers", "timm", "peft", "deepspeed", "numpy")


@dataclass(frozen=True)
class Setup:
    """`recompute`: what is tried in turn until it fits; n is every n-th layer, 0 none."""

    is_lora: bool
    optimizer: str
    micro_steps: int
    recompute: tuple[int, ...]


SETUPS = {
    "A": Setup(True, "masters on the device", 8, (0,)),
    "A-deepspeed": Setup(True, "deepspeed", 8, (0,)),
    "B": Setup(False, "masters on the host", 16, (0, 8, 4, 2, 1)),
    "C": Setup(False, "masters on the device", 4, (8, 4, 2, 1)),
}
_ATTENTION = {"flash": [SDPBackend.FLASH_ATTENTION], "cudnn": [SDPBackend.CUDNN_ATTENTION]}


class DoesNotFitError(Exception):
    """No share of recomputed layers fits the device's memory."""


class Cell:
    """One setup at one T: model, batches, optimizer; ready to be timed."""

    def __init__(self, name: str, num_frames: int, options: argparse.Namespace, launch: Launch) -> None:
        self.setup, self.launch = SETUPS[name], launch
        self.micro_steps = options.micro_steps or self.setup.micro_steps
        is_engine = self.setup.optimizer == "deepspeed"
        self.vlm: VideoLanguageModel = parts.build_vlm(
            is_tiny=options.tiny,
            device=launch.device,
            dtype=torch.float32 if is_engine else torch.bfloat16,
        )
        if self.setup.is_lora:
            parts.train_adapters(self.vlm, rank=4 if options.tiny else LORA_RANK)
        self.num_trained = sum(p.numel() for p in parts.trained(self.vlm.core))
        self.num_core = sum(p.numel() for p in self.vlm.core.parameters())
        host = parts.make_batches(
            self.vlm.settings, num_frames=num_frames, rows=options.rows, count=self.micro_steps
        )
        self.num_supervised = sum(batch.num_supervised for batch in host)
        self.num_tokens = sum(int(batch.attention_mask.sum()) for batch in host)
        self.num_visual = num_frames * options.rows * self.micro_steps
        self.num_visual *= self.vlm.tower.spec.patches_per_frame
        self.without, self.whole = (
            sum((flops_model(self.vlm, recompute=again).of_batch(batch) for batch in host), Flops())
            for again in (False, True)
        )
        self.batches = [batch.to(launch.device) for batch in host]
        if options.compile:
            for layer in parts.decoder_layers(self.vlm.core):
                layer.compile(dynamic=True)
        self.optimizer = self._optimizer(options)
        self.states = {"bf16": "bf16 (pure)"}.get(self.precision, "fp32")
        self.recompute_every, self.share = self._fit()

    def _optimizer(self, options: argparse.Namespace) -> Any:
        core, device = self.vlm.core, self.launch.device
        self.precision = "fp32"
        if self.setup.optimizer == "deepspeed":
            return parts.EngineAdamW(
                core, micro_steps=self.micro_steps, rows=options.rows, launch=self.launch
            )
        if self.setup.optimizer == "masters on the host":
            return parts.MasterAdamW(core, home=torch.device("cpu"), is_staged=True)
        needed = FP32_STATES_BYTES * self.num_trained + 2 * (self.num_core - self.num_trained) + SPARE_BYTES
        is_small = device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < needed
        if not self.setup.is_lora and (options.states == "bf16" or (options.states == "auto" and is_small)):
            self.precision = "bf16"
            return parts.PureAdamW(core)
        return parts.MasterAdamW(core, home=device, is_staged=False)

    def _fit(self) -> tuple[int, float]:
        """Recompute as little as the longest batch leaves room for, beside gradients and states."""
        for n in self.setup.recompute:
            share = parts.recompute_every(self.vlm.core, n)
            with contextlib.suppress(torch.OutOfMemoryError):
                self.compute(min(2, self.micro_steps))
                self.optimizer.step(0.0)
                return n, share
            self.optimizer.discard()
            gc.collect()
            torch.cuda.empty_cache()
        raise DoesNotFitError

    def compute(self, micro_steps: int) -> float:
        """Forward and backward of some micro-steps; the loss is read at the end of a step, as usual."""
        total = torch.zeros((), device=self.launch.device)
        for index, batch in enumerate(self.batches[:micro_steps]):
            self.optimizer.mark_boundary(is_last=index == micro_steps - 1)
            total += self.optimizer.backward(
                self.vlm.frozen_features(batch), batch, scale=1.0 / self.num_supervised
            )
        return float(total)

    @property
    def flops(self) -> Flops:
        """Of a step; layers are equal, so a share of them is recomputed at that share of the cost."""
        again = self.whole.hardware - self.without.hardware
        return Flops(self.without.model, self.without.hardware + self.share * again)


def measure(name: str, num_frames: int, options: argparse.Namespace) -> dict[str, Any]:
    """One cell; what does not fit is a result, too."""
    result: dict[str, Any] = {"setup": name, "frames": num_frames, "rows": options.rows}
    launch = detect_launch()
    kernels = _ATTENTION.get(options.attention) if launch.device.type == "cuda" else None
    with sdpa_kernel(kernels) if kernels else contextlib.nullcontext():
        try:
            cell = Cell(name, num_frames, options, launch)
        except (DoesNotFitError, torch.OutOfMemoryError):
            return result | {"failed": "out of memory", "peak_memory_bytes": peak_memory(launch.device)}
        if launch.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = [timed_step(cell) for _ in range(options.warm + options.steps)]
    computes, optimizers, losses = zip(*times[options.warm :], strict=True)
    compute, optimizer = statistics.median(computes), statistics.median(optimizers)
    whole = statistics.median(a + b for a, b in zip(computes, optimizers, strict=True))
    peak = device_peak(launch.device, precision="bf16")
    flops = cell.flops

    def shares(seconds: float, suffix: str) -> dict[str, float]:
        return {
            f"mfu_{suffix}": utilization(flops.model, seconds=seconds, world_size=1, peak=peak),
            f"hfu_{suffix}": utilization(flops.hardware, seconds=seconds, world_size=1, peak=peak),
            f"tokens_per_second_{suffix}": cell.num_tokens / seconds,
        }

    return result | {
        "micro_steps": cell.micro_steps,
        "optimizer": cell.setup.optimizer,
        "states": cell.states,
        "recompute_every": cell.recompute_every,
        "recompute_share": cell.share,
        "trained_parameters": cell.num_trained,
        "core_parameters": cell.num_core,
        "tokens": cell.num_tokens,
        "visual_tokens": cell.num_visual,
        "supervised_tokens": cell.num_supervised,
        "model_flops": flops.model,
        "hardware_flops": flops.hardware,
        "compute_seconds": compute,
        "optimizer_seconds": optimizer,
        "step_seconds": whole,
        "data_wait_seconds": 0.0,
        **shares(compute, "without_optimizer"),
        **shares(whole, "with_optimizer"),
        "peak_memory_bytes": peak_memory(launch.device),
        "host_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loss": losses[-1],
    }


def timed_step(cell: Cell) -> tuple[float, float, float]:
    """Seconds of forward and backward, seconds of the optimizer, loss."""
    is_cuda = cell.launch.device.type == "cuda"
    moments = []

    def note() -> None:
        if is_cuda:
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    note()
    loss = cell.compute(cell.micro_steps)
    note()
    cell.optimizer.step(LEARNING_RATE)
    note()
    return moments[1] - moments[0], moments[2] - moments[1], loss


def peak_memory(device: torch.device) -> int:
    """Allocated at the worst moment of the timed steps; of a CPU, the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": platform.processor() or "cpu",
        "memory_bytes": None,
        "peak_tflops": None,
    }
    if torch.cuda.is_available():
        device = torch.device("cuda")
        peak = device_peak(device, precision="bf16")
        found = {
            "device": torch.cuda.get_device_name(),
            "memory_bytes": torch.cuda.get_device_properties(device).total_memory,
            "peak_tflops": peak / 1e12,
        }
    versions = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return found | {"cores": os.cpu_count(), "versions": versions}


def apart(name: str, num_frames: int, arguments: list[str]) -> dict[str, Any]:
    """One cell in a process of its own: what one leaves in memory is no concern of the next."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cell.json"
        command = [sys.executable, __file__, *arguments, "--cell", name, str(num_frames), "--json", str(path)]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode or not path.is_file():
            return {"setup": name, "frames": num_frames, "failed": f"exit code {done.returncode}"}
        return json.loads(path.read_text())


def line(cell: dict[str, Any]) -> str:
    head = f"{cell['setup']:12}{cell['frames']:>3}"
    if "failed" in cell:
        return f"{head}  {cell['failed']}"

    def percent(value: float | None) -> str:
        return f"{100 * value:7.1f}" if value is not None and math.isfinite(value) else f"{'-':>7}"

    shares = [cell[f"{what}_{suffix}_optimizer"] for suffix in ("without", "with") for what in ("mfu", "hfu")]
    return (
        f"{head}{cell['micro_steps']:6} {percent(cell['recompute_share'])}{''.join(map(percent, shares))}"
        f"{cell['compute_seconds']:10.3f}{cell['optimizer_seconds']:9.3f}"
        f"{cell['tokens_per_second_with_optimizer']:10.0f}"
        f"{cell['peak_memory_bytes'] / GIB:9.1f}{cell['host_memory_bytes'] / GIB:8.1f}"
        f"{cell['data_wait_seconds']:6.0f}  {cell['states']}, {cell['optimizer']}"
    )


_COLUMNS = (
    *((6, "micro-"), (8, "recomp."), (14, "no optimizer"), (14, "with it"), (10, "compute"), (9, "optim.")),
    *((10, "tokens"), (9, "device"), (8, "host"), (6, "data")),
)
_UNITS = (
    *((6, "steps"), (8, "%"), (7, "MFU %"), (7, "HFU %"), (7, "MFU %"), (7, "HFU %"), (10, "s"), (9, "s")),
    *((10, "/s"), (9, "GiB"), (8, "GiB"), (6, "s")),
)
HEADER = (
    f"{'':15}{''.join(f'{name:>{width}}' for width, name in _COLUMNS)}\n"
    f"{'setup':12}{'T':>3}{''.join(f'{name:>{width}}' for width, name in _UNITS)}  masters and states"
)


def finite(value: Any) -> Any:
    """JSON knows no nan."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--frames", nargs="+", type=int, default=None, help="T; default 8 16, with --tiny 2")
    parser.add_argument("--rows", type=int, default=1, help="of a micro-step")
    parser.add_argument("--micro-steps", type=int, default=None, help="default: 8 (A), 16 (B), 4 (C)")
    parser.add_argument("--steps", type=int, default=3, help="timed")
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--states", choices=("auto", "fp32", "bf16"), default="auto", help="of C")
    parser.add_argument("--attention", choices=("flash", "cudnn", "any"), default="flash")
    parser.add_argument("--compile", action="store_true", help="torch.compile for each decoder layer")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--cell", nargs=2, metavar=("SETUP", "T"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.frames = options.frames or ([2] if options.tiny else [8, 16])
    return options


def main() -> None:
    arguments = sys.argv[1:]
    options = parse(arguments)
    if options.cell:
        options.json.write_text(json.dumps(finite(measure(options.cell[0], int(options.cell[1]), options))))
        return
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("no GPU is visible; --tiny runs on a CPU")
    report: dict[str, Any] = {
        "command": " ".join(["gpu_train.py", *arguments]),
        "machine": machine(),
        "cells": [],
    }
    versions = ", ".join(f"{name} {version}" for name, version in report["machine"]["versions"].items())
    print(f"{report['machine']['device']}; {versions}\n{HEADER}", flush=True)
    for name in options.setups:
        for num_frames in options.frames:
            is_alone = torch.cuda.is_available()
            cell = apart(name, num_frames, arguments) if is_alone else measure(name, num_frames, options)
            report["cells"].append(finite(cell))
            print(line(finite(cell)), flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
