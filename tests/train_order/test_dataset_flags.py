"""Data set flags that contradict each other are refused, all at once."""

from __future__ import annotations

import json

import pytest

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags

TINY = ["--model.type", "tiny", "--model.finetune_global_batch_size", "8"]
ONE = {"name": "one", "slots": 5, "manifest": "out/l1"}
TWO = {"name": "two", "slots": 3, "type": "webvid"}


def load(*flags: str) -> PretrainConfig:
    return load_pretrain_config(parse_flags([*TINY, *flags], model=PretrainConfig))


def problems(*flags: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    return [problem.removeprefix("dataset.") for problem in caught.value.problems]


def mixed(*parts: dict) -> list[str]:
    return ["--dataset.mixture", json.dumps(parts)]


def test_a_mixture_of_recipes_and_lists_is_taken() -> None:
    config = load(*mixed(ONE, TWO), "--dataset.dataset_root_dir", "data", "--order", "legacy")
    assert [part.slots for part in config.dataset.mixture or []] == [5, 3]
    assert config.order == "legacy"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "manifest: required"),
        (["--dataset.type", "webvit"], "type: 'webvit' is not a known data set (did you mean 'webvid'?)"),
        (["--dataset.type", "webvid", "--dataset.split", "val"], "split: a JSON list has no splits"),
        (["--dataset.manifest", "a/b", "--dataset.frame_policy", "linspace"], "frame_policy: has no effect"),
        ([*mixed(ONE, TWO), "--dataset.manifest", "a/b"], "manifest: given beside dataset.mixture"),
        (mixed(ONE), "mixture: its slots add up to 5, the global batch has 8 rows"),
        (mixed(ONE, {**TWO, "name": "one"}), "mixture: one comes more than once"),
        (mixed(ONE, {**TWO, "manifest": "a/b"}), "mixture.1: 'two' needs a manifest or a type, and not both"),
        (mixed(ONE, {"name": "two", "slots": 3}), "mixture.1: 'two' needs a manifest or a type"),
        (
            [
                *mixed({**TWO, "name": "one", "slots": 5}, TWO),
                "--dataset.finetune_stage_components",
                '["a.json", "b"]',
            ],
            "finetune_stage_components: every part of dataset.mixture with a type",
        ),
        (mixed(ONE, {**TWO, "type": "llava"}), "mixture.1.type: 'llava' is not a known data set"),
    ],
)
def test_what_contradicts_is_refused(flags, problem) -> None:
    (found,) = problems(*flags)
    assert found.startswith(problem)


def test_all_problems_come_at_once() -> None:
    found = problems(*mixed(ONE, {**TWO, "name": "one", "type": "llava"}), "--dataset.type", "webvid")
    assert len(found) == 3
