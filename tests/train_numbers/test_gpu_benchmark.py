"""`benchmarks/gpu_train.py` measures what it says: its LoRA, its recompute, its optimizer on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from weave_train.models.lora import is_adapter

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gpu_train_parts
    finally:
        sys.path.remove(str(BENCHMARKS))
    return gpu_train_parts


def build(parts: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
    return parts.build_vlm(is_tiny=True, device=CPU, dtype=dtype)


def batches(parts: Any, vlm: Any, count: int = 2) -> list[Any]:
    made: list[Any] = parts.make_batches(vlm.settings, num_frames=2, rows=1, count=count)
    return made


def test_batches_are_woven_like_and_the_first_is_the_longest(parts: Any) -> None:
    lengths = [batch.input_ids.shape[1] for batch in batches(parts, build(parts), count=6)]
    assert lengths[0] == max(lengths)
    assert len(set(lengths)) > 2
    assert all(batch.attention_mask.all() for batch in batches(parts, build(parts)))


def test_lora_begins_as_the_model_it_is_added_to_and_is_all_that_is_trained(parts: Any) -> None:
    vlm = build(parts)
    (batch,) = batches(parts, vlm, count=1)
    before = vlm.core(vlm.frozen_features(batch), batch)
    parts.train_adapters(vlm, rank=4)
    after = vlm.core(vlm.frozen_features(batch), batch)
    assert torch.equal(before, after)
    names = {name for name, p in vlm.core.named_parameters() if p.requires_grad}
    assert all(is_adapter(name) or name.startswith("projector.") for name in names)
    assert sum(".lora_A." in name for name in names) == 7 * parts.TINY["num_hidden_layers"]
    assert {value.dtype for value in vlm.core.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(("n", "share"), [(0, 0.0), (4, 0.25), (2, 0.5), (1, 1.0)])
def test_a_share_of_recomputed_layers_costs_that_share_and_changes_no_gradient(
    parts: Any, n: int, share: float
) -> None:
    vlm = build(parts, torch.float32)
    (batch,) = batches(parts, vlm, count=1)
    features = vlm.frozen_features(batch).float()

    def count(every: int) -> tuple[int, float, torch.Tensor]:
        found = parts.recompute_every(vlm.core, every)
        vlm.core.zero_grad()
        with FlopCounterMode(display=False) as counter:
            vlm.core(features, batch).backward()
        weight = vlm.core.language_model.base_model.layers[0].mlp.up_proj.weight
        return counter.get_total_flops(), found, weight.grad.clone()

    none, _, expected = count(0)
    whole, _, _ = count(1)
    some, found, gradient = count(n)
    assert found == share
    assert some - none == pytest.approx(share * (whole - none))
    assert whole > none
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("is_staged", [False, True])
def test_masters_are_stepped_as_adamw_steps_fp32_weights(
    parts: Any, monkeypatch: pytest.MonkeyPatch, is_staged: bool
) -> None:
    monkeypatch.setattr(parts, "CHUNK_ELEMENTS", 20_000)  # several chunks
    vlm, reference = build(parts, torch.float32), build(parts, torch.float32)
    made = batches(parts, vlm, count=3)
    optimizer = parts.MasterAdamW(vlm.core, home=CPU, is_staged=is_staged)
    adamw = torch.optim.AdamW(parts.trained(reference.core), lr=1e-3, weight_decay=0.1)
    for _ in range(2):
        for batch in made:
            for one, backward in ((vlm, optimizer.backward), (reference, plain_backward)):
                target = {} if one is vlm else {"core": reference.core}
                backward(one.frozen_features(batch), batch, scale=0.01, **target)
        torch.nn.utils.clip_grad_norm_(parts.trained(reference.core), parts.MAX_GRAD_NORM)
        optimizer.step(1e-3)
        adamw.step()
        adamw.zero_grad()
    ours, theirs = ([*map(torch.Tensor.flatten, parts.trained(core))] for core in (vlm.core, reference.core))
    torch.testing.assert_close(torch.cat(ours), torch.cat(theirs), atol=2e-5, rtol=0)


def plain_backward(features: torch.Tensor, batch: Any, *, scale: float, core: Any) -> None:
    (core(features, batch) * scale).backward()


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """The command, as a user gives it; its JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        str(BENCHMARKS / "gpu_train.py"),
        *arguments,
        "--json",
        str(tmp_path / "out.json"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    return found


@pytest.mark.process
def test_every_setup_runs_tiny_on_a_cpu(tmp_path: Path) -> None:
    report = run(tmp_path, "--tiny", "--steps", "1")
    cells = {cell["setup"]: cell for cell in report["cells"]}
    assert list(cells) == ["A", "A-deepspeed", "B", "C"]
    assert all("failed" not in cell for cell in cells.values())
    assert cells["A"]["recompute_share"] == cells["B"]["recompute_share"] == 0
    assert cells["C"]["recompute_share"] == 0.25
    assert cells["C"]["hardware_flops"] > cells["C"]["model_flops"]
    assert cells["B"]["micro_steps"] == 16
    assert (
        cells["A"]["trained_parameters"] < cells["B"]["trained_parameters"] == cells["B"]["core_parameters"]
    )
    # frozen weights pass the gradient on and have none of their own
    per_token = {name: cells[name]["model_flops"] / cells[name]["tokens"] for name in "AB"}
    assert 0.6 < per_token["A"] / per_token["B"] < 0.9
    assert all(cell["mfu_without_optimizer"] is None for cell in cells.values())  # a CPU has no peak
    assert report["machine"]["versions"]["torch"] == torch.__version__


@pytest.mark.gpu
def test_every_setup_runs_tiny_on_a_gpu_with_flash_attention(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        message = "no GPU is visible"
        pytest.fail(message) if os.environ.get("WEAVE_REQUIRE_GPU") == "1" else pytest.skip(message)
    report = run(tmp_path, "--tiny", "--steps", "1")
    assert all("failed" not in cell for cell in report["cells"])
    assert all(cell["peak_memory_bytes"] > 0 for cell in report["cells"])
