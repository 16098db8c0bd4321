"""Peaks by the names drivers give."""

from __future__ import annotations

import math
import mmap

import pytest
import torch

from weave_train.numbers import device_peak, memory_bytes, peak_flops, utilization


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA L4", 121.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A10", 125.0),
    ],
)
def test_a_name_is_read_as_words(name: str, tflops: float) -> None:
    assert peak_flops(name, precision="bf16") == pytest.approx(tflops * 1e12)


def test_an_unknown_device_has_no_peak_and_no_utilization() -> None:
    assert math.isnan(peak_flops("NVIDIA Z9000", precision="bf16"))
    peak = device_peak(torch.device("cpu"), precision="fp32")
    assert math.isnan(utilization(1e12, seconds=1.0, world_size=1, peak=peak))


def test_utilization_is_a_share_of_all_devices() -> None:
    assert utilization(4e14, seconds=2.0, world_size=2, peak=1e14) == pytest.approx(1.0)


def test_memory_of_a_process_without_a_gpu_is_what_lies_in_ram() -> None:
    content = bytes(range(1, 129)) * (2**19)
    before = memory_bytes(torch.device("cpu"))
    with mmap.mmap(-1, len(content)) as held:  # what malloc gives may have lain in RAM before
        held.write(content)
        assert memory_bytes(torch.device("cpu")) - before > 48 * 2**20
