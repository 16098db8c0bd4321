"""Peak dense matrix throughput of accelerators, for MFU.

Source:
    Vendors' data sheets, tensor cores, without sparsity (sheets that quote it are halved), fp32
    accumulation; fp32 means what torch does by default, without TF32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["PEAKS", "Peak", "device_peak", "peak_flops", "utilization"]


@dataclass(frozen=True)
class Peak:
    """TFLOP/s of a device whose name contains all `words`."""

    words: tuple[str, ...]
    bf16_tflops: float
    fp32_tflops: float


PEAKS = (
    Peak(("GB200",), 2500.0, 80.0),
    Peak(("B200",), 2250.0, 75.0),
    Peak(("GH200",), 989.4, 67.0),
    Peak(("H200", "NVL"), 835.5, 60.0),
    Peak(("H200",), 989.4, 67.0),
    Peak(("H100", "NVL"), 835.5, 60.0),
    Peak(("H100", "PCIe"), 756.5, 51.0),
    Peak(("H100",), 989.4, 67.0),
    Peak(("H800", "PCIe"), 756.5, 51.0),
    Peak(("H800",), 989.4, 67.0),
    Peak(("H20",), 148.0, 44.0),
    Peak(("A100",), 312.0, 19.5),
    Peak(("A800",), 312.0, 19.5),
    Peak(("A40",), 149.7, 37.4),
    Peak(("A30",), 165.0, 10.3),
    Peak(("A10G",), 70.0, 35.0),
    Peak(("A10",), 125.0, 31.2),
    Peak(("L40S",), 362.05, 91.6),
    Peak(("L40",), 181.05, 90.5),
    Peak(("L4",), 121.0, 30.3),
    Peak(("RTX 6000 Ada",), 364.2, 91.1),
    Peak(("RTX 4090",), 165.2, 82.6),
)
"""First match wins: variants stand before the plain name."""


def peak_flops(device_name: str, *, precision: Literal["bf16", "fp32"]) -> float:
    """Dense FLOP/s of a device by the name its driver gives; nan when it is not in `PEAKS`."""
    words = device_name.replace("-", " ").split()
    text = f" {' '.join(words)} "
    for peak in PEAKS:
        if all(f" {word} " in text for word in peak.words):
            tflops = peak.bf16_tflops if precision == "bf16" else peak.fp32_tflops
            return tflops * 1e12
    return math.nan


def device_peak(device: torch.device, *, precision: Literal["bf16", "fp32"]) -> float:
    """`peak_flops` of a torch device; nan for a CPU."""
    if device.type != "cuda":
        return math.nan
    return peak_flops(torch.cuda.get_device_name(device), precision=precision)


def utilization(flops: float, *, seconds: float, world_size: int, peak: float) -> float:
    """Share of the peak of `world_size` equal devices that `flops` in `seconds` make; nan without a peak."""
    return flops / (max(seconds, 1e-9) * world_size * peak)
