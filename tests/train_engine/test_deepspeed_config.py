"""What DeepSpeed is told, and what a user's file may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weave_data.errors import ConfigError
from weave_train.engine.deepspeed_config import (
    EngineSettings,
    deepspeed_config,
    offloads,
    read_deepspeed_file,
    reduce_bucket_elements,
    zero_section,
)

FILES = sorted((Path(__file__).parents[2] / "cluster_configs" / "deepspeed").glob("*.json"))


def settings(**changes) -> EngineSettings:
    values = {
        "zero_stage": 2,
        "precision": "fp32",
        "micro_batch_rows": 2,
        "micro_steps": 3,
        "max_grad_norm": 1.0,
        "weight_decay": 0.1,
    }
    return EngineSettings(**{**values, **changes})


def config(trained_parameters: int = 1000, **changes) -> dict:
    return deepspeed_config(settings(**changes), trained_parameters=trained_parameters)


def test_there_is_a_file_for_each_stage() -> None:
    assert {file.stem for file in FILES} == {"zero0", "zero1", "zero2", "zero3", "zero3-offload"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_stage_and_its_file_mean_the_same(file: Path) -> None:
    stage, extra = read_deepspeed_file(file)
    offload = file.stem.endswith("-offload")
    assert extra == {"zero_optimization": zero_section(stage, offload=offload)}
    assert file.stem.removesuffix("-offload") == f"zero{stage}"
    assert offloads(settings(zero_stage=stage, extra=extra)) == offload
    if not offload:
        assert config(zero_stage=stage, extra=extra) == config(zero_stage=stage)


def test_the_global_batch_is_never_given() -> None:
    assert "train_batch_size" not in config()


def test_bf16_accumulates_in_fp32_and_checks_what_it_steps_with() -> None:
    values = config(precision="bf16")
    assert values["data_types"] == {"grad_accum_dtype": "fp32"}
    assert values["bf16"] == {"enabled": True, "check_grad_overflow": True}
    assert "bf16" not in config()


def test_pure_bf16_rounds_masters_states_and_sums() -> None:
    values = config(precision="bf16", master_weights="bf16")
    assert values["data_types"] == {"grad_accum_dtype": "bf16"}
    assert values["bf16"]["bf16_master_weights_and_grads"]
    assert values["bf16"]["bf16_optimizer_states"]


@pytest.mark.parametrize(
    ("precision", "in_full", "dtype"),
    [("fp32", True, "fp32"), ("fp32", False, "fp32"), ("bf16", True, "fp32"), ("bf16", False, "bf16")],
)
def test_gradients_are_summed_over_ranks_as_told(precision, in_full, dtype) -> None:
    values = config(precision=precision, reduce_in_full_precision=in_full)
    assert values["communication_data_type"] == dtype


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_bucket_is_as_large_as_the_gradients_and_bounded(stage) -> None:
    assert config(321_000, zero_stage=stage)["zero_optimization"]["reduce_bucket_size"] == 321_000
    assert reduce_bucket_elements(7_000_000_000) == 500_000_000
    mine = {"zero_optimization": {"stage": stage, "reduce_bucket_size": 77}}
    assert config(zero_stage=stage, extra=mine)["zero_optimization"]["reduce_bucket_size"] == 77


def test_a_file_that_decides_what_flags_decide_is_refused_with_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train_batch_size": 8, "optimizer": {}, "zero_optimization": {"stage": 5}}))
    with pytest.raises(ConfigError) as caught:
        read_deepspeed_file(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "train_batch_size",
        "optimizer",
        "zero_optimization.stage",
    ]


def test_auto_values_are_ours_to_fill(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    section = {"stage": 1, "reduce_bucket_size": "auto"}
    path.write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": section}))
    assert read_deepspeed_file(path) == (1, {"zero_optimization": {"stage": 1}})


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read"):
        read_deepspeed_file(tmp_path / "none.json")
