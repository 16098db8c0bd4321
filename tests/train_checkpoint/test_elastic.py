"""A run goes on with other ranks and another ZeRO stage as if nothing had been: same order, same losses.

The language model has tied embeddings and sizes that no world divides. Each chain is resized twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Training

from weave_train.checkpoint.layout import find_checkpoint_at
from weave_train.loading import load
from weave_train.models.lora import is_adapter

pytestmark = [pytest.mark.process, pytest.mark.timeout(1800)]

STEPS = 9
EACH = 3


def flags(model: Path, precision: str, stage: str = "finetune") -> list[str]:
    given = [
        *("--model.llm_backbone_id", f"hf:{model}", "--model.finetune_learning_rate", "1e-3"),
        *("--model.enable_mixed_precision_training", str(precision == "bf16").lower()),
        *("--max_steps", str(STEPS)),
    ]
    if stage == "align":
        given += [
            *("--stage", "align", "--model.arch_specifier", "gelu-mlp"),
            *("--model.align_global_batch_size", "9", "--model.align_per_device_batch_size", "2"),
            *("--model.align_train_strategy", "fsdp-shard-grad-op"),
        ]
    return given


def metric(run_dir: Path, name: str) -> list[Any]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines]
    return [value for line in values for key, value in line.items() if key.endswith(f"/{name}")]


def run_chain(training: Training, name: str, chain: Sequence[tuple[int, str]], given: Sequence[str]) -> Path:
    for ranks, zero_stage in chain:
        stop = ["--stop_after_steps", str(EACH)]
        training.start(name, *given, "--zero_stage", zero_stage, *stop, num_ranks=ranks)
    return training.root / name


def check_same(run_dir: Path, unbroken: Path, *, rel: float) -> None:
    assert metric(run_dir, "Ledger") == metric(unbroken, "Ledger")
    assert len(metric(run_dir, "Ledger")) == STEPS
    assert metric(run_dir, "Loss (Raw)") == pytest.approx(metric(unbroken, "Loss (Raw)"), rel=rel)
    assert metric(run_dir, "Learning Rate") == metric(unbroken, "Learning Rate")


@pytest.fixture(scope="session")
def unbroken(training: Training, odd_model: Path) -> Path:
    return training.start("unbroken", *flags(odd_model, "fp32"), "--zero_stage", "2")


@pytest.mark.parametrize(
    "chain",
    [
        [(4, "3"), (2, "2"), (3, "3")],
        pytest.param([(3, "1"), (2, "3"), (4, "2")], marks=pytest.mark.slow),
        pytest.param([(2, "3"), (1, "0"), (3, "2")], marks=pytest.mark.slow),
        pytest.param([(1, "0"), (3, "3"), (2, "1")], marks=pytest.mark.slow),
    ],
    ids=lambda chain: "-".join(f"{ranks}x{stage}" for ranks, stage in chain),
)
def test_two_resizes_leave_the_curve_as_it_was(
    training: Training, odd_model: Path, unbroken: Path, chain: list[tuple[int, str]]
) -> None:
    name = "chain-" + "-".join(f"{ranks}{stage}" for ranks, stage in chain)
    run_dir = run_chain(training, name, chain, flags(odd_model, "fp32"))
    check_same(run_dir, unbroken, rel=1e-5)
    ours, theirs = (dict(load(path, device="cpu").core.named_parameters()) for path in (run_dir, unbroken))
    for parameter, value in theirs.items():
        assert torch.allclose(ours[parameter], value, rtol=1e-3, atol=1e-5), parameter


@pytest.mark.slow
@pytest.mark.parametrize("chain", [[(4, "2"), (2, "3"), (3, "1")], [(2, "3"), (3, "2"), (2, "1")]])
def test_bf16_goes_on_from_its_fp32_masters(
    training: Training, odd_model: Path, chain: list[tuple[int, str]]
) -> None:
    given = flags(odd_model, "bf16")
    straight = training.root / "unbroken-bf16"
    if not straight.is_dir():
        training.start("unbroken-bf16", *given, "--zero_stage", "2")
    run_dir = run_chain(training, f"chain-bf16-{chain[0][0]}", chain, given)
    check_same(run_dir, straight, rel=1e-2)


@pytest.mark.slow
def test_a_frozen_language_model_keeps_its_weights_through_two_resizes(
    training: Training, odd_model: Path
) -> None:
    given = flags(odd_model, "fp32", "align")
    straight = training.start("unbroken-align", *given, "--zero_stage", "2")
    run_dir = run_chain(training, "chain-align", [(2, "3"), (3, "2"), (1, "0")], given)
    check_same(run_dir, straight, rel=1e-5)
    checkpoint = find_checkpoint_at(str(run_dir))
    assert set(checkpoint.frozen) == {"vision", "language"}
    assert {name.partition(".")[0] for name in checkpoint.shapes} == {"projector"}
    from weave_data.torchvision_ops import install

    install()
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(odd_model).state_dict()
    loaded = load(run_dir, device="cpu").core.language_model.state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in base.items())


FROZEN = "projector.0.bias"
ADAPTERS = [
    *("--lora.rank", "3", "--lora.alpha", "5", "--lora.dropout", "0.1", "--lora.targets", "*_proj"),
    "--trainable",
    f'[{{match: {FROZEN}, freeze: true}}, {{match: "*.layers.1.*.lora_B.*", lr_scale: 0.5}}]',
]


@pytest.mark.parametrize(
    "chain",
    [
        [(2, "3"), (1, "2"), (2, "2")],
        pytest.param([(2, "2"), (1, "3"), (2, "3")], marks=pytest.mark.slow),
        pytest.param([(1, "0"), (3, "3"), (2, "1")], marks=pytest.mark.slow),
    ],
    ids=lambda chain: "-".join(f"{ranks}x{stage}" for ranks, stage in chain),
)
def test_adapters_with_dropout_go_on_through_two_resizes_over_the_same_base(
    training: Training, odd_model: Path, chain: list[tuple[int, str]]
) -> None:
    given = [*flags(odd_model, "fp32"), *ADAPTERS]
    straight = training.root / "unbroken-lora"
    if not straight.is_dir():
        training.start("unbroken-lora", *given, "--zero_stage", "2")
    name = "chain-lora-" + "-".join(f"{ranks}{stage}" for ranks, stage in chain)
    run_dir = run_chain(training, name, chain, given)
    check_same(run_dir, straight, rel=1e-5)
    checkpoint = find_checkpoint_at(str(run_dir))
    assert set(checkpoint.frozen) == {"vision", "language", "projector"}
    assert len(list(run_dir.glob("frozen/*"))) == 3
    assert FROZEN not in checkpoint.shapes
    trained = {name for name in checkpoint.shapes if not name.startswith("projector.")}
    assert len(trained) == 2 * 7 * 2
    assert all(is_adapter(name) for name in trained)
    ours, theirs = (dict(load(path, device="cpu").core.named_parameters()) for path in (run_dir, straight))
    for parameter, value in theirs.items():
        assert torch.allclose(ours[parameter], value, rtol=1e-3, atol=1e-5), parameter
