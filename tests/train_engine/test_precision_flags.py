"""Flags of precision, schedule and non-finite steps: taken where they mean something, else refused."""

from __future__ import annotations

import pytest

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags

TINY = ["--dataset.manifest", "out/l4/manifest.json", "--model.type", "tiny"]
BF16 = ["--model.enable_mixed_precision_training", "true"]
FREE = ["--model.finetune_lr_scheduler_type", "schedule_free_adamw"]


def load(*flags: str) -> PretrainConfig:
    return load_pretrain_config(parse_flags([*TINY, *flags], model=PretrainConfig))


@pytest.mark.parametrize(
    "flags",
    [
        [*BF16, "--master_weights", "bf16", "--zero_stage", "1"],
        [*BF16, "--model.reduce_in_full_precision", "false"],
        ["--model.reduce_in_full_precision", "true"],
        FREE,
        [*FREE, *BF16],
        ["--watch.nonfinite", "skip", "--watch.max_skipped_steps", "3"],
    ],
)
def test_what_is_honoured_is_taken(flags) -> None:
    load(*flags)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--master_weights", "bf16"], "master_weights: bf16 is for compute in bf16"),
        ([*BF16, "--master_weights", "bf16", "--zero_stage", "0"], "zero_stage: 0 trains in fp32 only"),
        ([*BF16, "--master_weights", "bf16", *FREE], "master_weights: bf16 rounds"),
        (["--model.reduce_in_full_precision", "false"], "model.reduce_in_full_precision: false has no"),
        (["--watch.max_skipped_steps", "3"], "watch.max_skipped_steps: has no effect without"),
    ],
)
def test_what_nothing_would_honour_is_refused(flags, problem) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(problem)


def test_masters_and_sums_are_fp32_unless_asked_otherwise() -> None:
    config = load(*BF16)
    assert (config.precision, config.master_weights) == ("bf16", "fp32")
    assert config.model.reduce_in_full_precision
