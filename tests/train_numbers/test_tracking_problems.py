"""Flags of trackers and validation: what they name, and what is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.config.tracking_problems import tracking_problems

BASE = load_pretrain_config([("dataset.manifest", "woven/manifest.json"), ("model.type", "tiny")])


def problems(**values: Any) -> list[str]:
    return tracking_problems(PretrainConfig(**{**BASE.model_dump(), **values}))


def test_a_list_takes_several_words() -> None:
    flags = ["--trackers", "jsonl", "wandb", "--run_id", "7"]
    assert parse_flags(flags, model=PretrainConfig) == [("trackers", ["jsonl", "wandb"]), ("run_id", "7")]


def test_what_nothing_would_honour_is_refused() -> None:
    assert problems() == []
    assert problems(wandb_project="looms", wandb_entity="weavers") == [
        "wandb_project: has no effect without --trackers jsonl wandb",
        "wandb_entity: has no effect without --trackers jsonl wandb",
    ]
    assert problems(val_max_rows=5)[0].startswith("val_max_rows: has no effect without --val_dataset")


def test_a_missing_wandb_is_known_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'videoweave[wandb]'" in problems(trackers=["jsonl", "wandb"])[0]


def test_validating_on_the_training_rows_is_refused() -> None:
    assert "the same rows" in problems(val_dataset={"manifest": "woven/manifest.json"})[0]
    assert problems(val_dataset={"manifest": "woven/manifest.json", "split": "val"}) == []


def test_a_split_alone_is_one_of_the_training_data() -> None:
    config = PretrainConfig(**{**BASE.model_dump(), "val_dataset": {"split": "val"}})
    held_out = config.validation_dataset
    assert held_out is not None
    assert (held_out.manifest, held_out.split) == ("woven/manifest.json", "val")
    assert BASE.validation_dataset is None


def test_a_mixture_is_not_validated_on() -> None:
    part = {"name": "a", "slots": 32, "manifest": "a/manifest.json"}
    assert "val_dataset.mixture" in problems(val_dataset={"mixture": [part]})[0]
