"""Whole runs of a named language model: trained in two processes, rebuilt without the model it began with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_runs import Training

from weave_data.errors import ConfigError
from weave_train.loading import load
from weave_train.models.rope import scaled_base

pytestmark = pytest.mark.process


def test_a_gemma_with_scaled_positions_trains_and_comes_back_without_its_base(
    training: Training, small_language: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tmp_path / "gemma"
    shutil.copytree(small_language("gemma-2b-instruct"), base)
    model = ["--model.llm_backbone_id", "gemma-2b-instruct", "--model.llm_weights", str(base)]
    rope = ["--model.rope_scaling_factor", "2", "--model.llm_max_length", "16384"]
    bf16 = ["--model.enable_mixed_precision_training", "true", "--zero_stage", "3", "--max_steps", "3"]
    run = training.start("gemma", *model, *rope, *bf16)
    shutil.rmtree(base)
    vlm = load(run)
    assert vlm.settings.rope_scaling_factor == 2.0
    language = vlm.core.language_model
    assert type(language).__name__ == "GemmaForCausalLM"
    assert language.lm_head.weight is language.model.embed_tokens.weight
    assert language.lm_head.weight.dtype == torch.bfloat16
    expected = scaled_base(1e4, factor=2.0, positions=8192, length=16384, dim=32)
    frequencies = 1 / expected ** (torch.arange(0, 32, 2) / 32)
    torch.testing.assert_close(language.model.rotary_emb.inv_freq, frequencies, rtol=1e-6, atol=0)
    assert isinstance(vlm.generate([], "In: What moves?\nOut:", max_new_tokens=3), str)


def test_frames_that_can_not_fit_are_said_before_the_model_is_looked_for(training: Training) -> None:
    model = ["--model.llm_backbone_id", "vicuna-v15-7b", "--model.llm_max_length", "12"]
    result = training.alone("no-room", *model)
    assert result.returncode == ConfigError.exit_code, result.stderr
    assert "4 frames of video-tiny-vit are 16 visual tokens, 12 leave no room for text" in result.stderr
    assert not (training.root / "no-room").exists()
