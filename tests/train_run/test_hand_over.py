"""Align, then finetune: the second run finds the first one's projector by itself."""

from __future__ import annotations

import json

import pytest
import torch
from training_runs import Training

from weave_train.loading import load

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def test_align_hands_its_projector_to_finetune_and_resume_does_not_take_it_again(training: Training) -> None:
    flags = [
        *("--dataset.manifest", training.manifest, "--model.type", "tiny", "--num_workers", "1"),
        *("--model.arch_specifier", "gelu-mlp", "--model.finetune_global_batch_size", "9"),
        *("--model.align_global_batch_size", "9", "--run_root_dir", str(training.root / "stages")),
        *("--zero_stage", "2", "--max_steps", "4"),
    ]
    refused = training.command("pretrain", *flags, "--stage", "finetune")
    assert refused.returncode == 2
    assert "trained by --stage align: none in" in refused.stderr
    aligned = training.command("pretrain", *flags, "--stage", "align")
    assert aligned.returncode == 0, aligned.stderr
    # a rate of 0 leaves what the run began with
    frozen = [*flags, "--stage", "finetune", "--model.finetune_learning_rate", "0.0", "--run_id", "second"]
    tuned = training.command("pretrain", *frozen, "--stop_after_steps", "2")
    assert tuned.returncode == 0, tuned.stderr
    assert "begins with projector (4 tensors)" in tuned.stderr
    [first] = (training.root / "stages").glob("*stage-align*")
    second = training.root / "stages" / "second"
    assert json.loads((second / "warm_start.json").read_text())["origin"] == str(first)
    for (name, a), b in zip(
        load(first, device="cpu").core.projector.named_parameters(),
        load(second, device="cpu").core.projector.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b), name
    resumed = training.command("pretrain", *frozen)
    assert resumed.returncode == 0, resumed.stderr
    assert "begins with" not in resumed.stderr
