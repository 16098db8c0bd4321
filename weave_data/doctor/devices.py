"""GPUs and the cores beside them, and how long a stored frame takes to become pixels."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weave_data.doctor.finding import Finding, Status

__all__ = ["cores_for_frames", "judge_gpus", "look"]

_FRAME_PX = (597, 336)
_TIMING_SECONDS = 0.3
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def look(*, needs_torch: bool, times_frames: bool) -> dict[str, Any]:
    """`cores` this process may use, `driver_gpus` of the kernel's driver, `torch_gpus` names, `cuda` and
    `nccl` versions, `frame_ms` CPU milliseconds of decoding and resizing one stored frame (0: not measured).
    """
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "driver_gpus": len(list(_NVIDIA.iterdir())) if _NVIDIA.is_dir() else 0,
        "torch_gpus": [],
        "cuda": None,
        "frame_ms": _frame_ms() if times_frames else 0.0,
    }
    if needs_torch:
        import torch

        facts["cuda"] = torch.version.cuda
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            facts["torch_gpus"] = [torch.cuda.get_device_name(index) for index in range(count)]
            facts["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return facts


def _frame_ms() -> float:
    """CPU ms to decode a 597 x 336 JPEG of quality 85 and 40 kB and make a 336 px square of it."""
    noise = np.random.default_rng(0).integers(0, 256, (84, 150, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).resize(_FRAME_PX, Image.Resampling.BICUBIC).save(sink, "JPEG", quality=85)
    data, count, start = sink.getvalue(), 0, time.process_time()
    while time.process_time() - start < _TIMING_SECONDS:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image.resize((_FRAME_PX[1], _FRAME_PX[1]), Image.Resampling.BICUBIC)
        count += 1
    return (time.process_time() - start) / count * 1e3


def judge_gpus(facts: Mapping[str, Any], *, wants_gpu: bool, node: str) -> Finding:
    """One finding: the driver's GPUs are torch's, where torch is asked to use any."""
    torch_gpus, driver_gpus = facts["torch_gpus"], facts["driver_gpus"]
    if driver_gpus > len(torch_gpus) and wants_gpu:
        found = f"the driver has {driver_gpus} GPUs, torch (CUDA {facts['cuda']}) sees {len(torch_gpus)}"
        remedy = "install a CUDA build of torch that the driver supports, and check CUDA_VISIBLE_DEVICES"
        return Finding("gpus", Status.WARN, found, remedy, node)
    if not torch_gpus:
        return Finding("gpus", Status.OK, "none", node=node)
    kinds = ", ".join(f"{torch_gpus.count(name)} x {name}" for name in dict.fromkeys(torch_gpus))
    return Finding("gpus", Status.OK, f"{kinds}; CUDA {facts['cuda']}, NCCL {facts.get('nccl')}", node=node)


def cores_for_frames(
    facts: Mapping[str, Any], *, num_gpus: int, frames_per_second: float, own_cores: float, node: str
) -> Finding:
    """Are there cores enough to turn JPEGs into pixels as fast as GPUs take them?

    Args:
        facts: Of the node, with `frame_ms`.
        num_gpus: That work there.
        frames_per_second: That one GPU takes.
        own_cores: Beside decoding, for each GPU: the thread that drives it.
        node: Its name.
    """
    needed = own_cores + frames_per_second * facts["frame_ms"] / 1e3
    there = facts["cores"] / num_gpus
    found = (
        f"{facts['cores']} cores for {num_gpus} GPUs, {there:.1f} each; "
        f"{frames_per_second:,.0f} frames/s a GPU x {facts['frame_ms']:.1f} ms + {own_cores:g} = {needed:.1f}"
    )
    if there >= needed:
        return Finding("cores", Status.OK, found, node=node)
    remedy = (
        f"give each GPU {needed:.0f} cores, or expect it to wait for {1 - there / needed:.0%} of the time"
    )
    return Finding("cores", Status.WARN, found, remedy, node)
