"""What DeepSpeed is told, and what a user's file may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weave_data.errors import ConfigError
from weave_train.engine.deepspeed_config import (
    EngineSettings,
    deepspeed_config,
    read_deepspeed_file,
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


def test_there_is_a_file_for_each_stage() -> None:
    assert [file.stem for file in FILES] == ["zero0", "zero1", "zero2", "zero3"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_stage_and_its_file_mean_the_same(file: Path) -> None:
    stage, extra = read_deepspeed_file(file)
    assert extra == {"zero_optimization": zero_section(stage)}
    assert file.stem == f"zero{stage}"
    assert deepspeed_config(settings(zero_stage=stage, extra=extra)) == deepspeed_config(
        settings(zero_stage=stage)
    )


def test_the_global_batch_is_never_given() -> None:
    assert "train_batch_size" not in deepspeed_config(settings())


def test_bf16_accumulates_in_fp32_and_never_skips_by_itself() -> None:
    config = deepspeed_config(settings(precision="bf16"))
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert config["bf16"] == {"enabled": True, "check_grad_overflow": False}


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
    path.write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": {"stage": 1}}))
    assert read_deepspeed_file(path) == (1, {"zero_optimization": {"stage": 1}})


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read"):
        read_deepspeed_file(tmp_path / "none.json")
