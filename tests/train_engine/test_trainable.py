"""Rules by parameter name freeze, slow down and unfreeze what they say, or are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from step_ranks import build

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, StageId, TrainableRule, load_pretrain_config, parse_flags
from weave_train.engine.parameter_groups import parameter_groups
from weave_train.engine.stages import apply_stage, trains_tower
from weave_train.models.model import VideoLanguageModel


def rules(*given: dict[str, Any]) -> list[TrainableRule]:
    return [TrainableRule(**values) for values in given]


def frozen_names(vlm: VideoLanguageModel) -> set[str]:
    return {name for name, value in vlm.core.named_parameters() if not value.requires_grad}


@pytest.fixture
def vlm() -> VideoLanguageModel:
    return build("finetune")


def problems(vlm: VideoLanguageModel, stage: StageId, given: Sequence[TrainableRule]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        apply_stage(vlm, stage, given)
    return caught.value.problems


def test_the_first_rule_that_matches_decides(vlm: VideoLanguageModel) -> None:
    scales = apply_stage(
        vlm,
        "finetune",
        rules(
            {"match": "*.layers.0.self_attn.*", "lr_scale": 0.5},
            {"match": "language_model.model.layers.0.*", "freeze": True},
            {"match": "language_model.model.layers.*", "lr_scale": 0.1},
        ),
    )
    layer = "language_model.model.layers.0."
    assert frozen_names(vlm) == {
        name
        for name, _ in vlm.core.named_parameters()
        if name.startswith(layer) and ".self_attn." not in name
    }
    assert {value for name, value in scales.items() if name.startswith(f"{layer}self_attn")} == {0.5}
    assert {value for name, value in scales.items() if ".layers.1." in name} == {0.1}
    assert not any("embed_tokens" in name or name.startswith("projector") for name in scales)


def test_a_rule_s_share_comes_on_top_of_its_part_s() -> None:
    core = build("finetune").core
    scales = {name: 0.1 for name, _ in core.named_parameters() if ".layers.1." in name}
    groups = parameter_groups(core, weight_decay=0.1, lr_scale={"language": 0.5}, parameter_lr_scale=scales)
    of = {id(value): group for group in groups for value in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups) == len(list(core.parameters()))
    for name, value in core.named_parameters():
        share = 1.0 if name.startswith("projector") else 0.05 if ".layers.1." in name else 0.5
        assert of[id(value)]["lr_scale"] == pytest.approx(share), name
        assert of[id(value)]["weight_decay"] == (0.1 if value.ndim == 2 else 0.0)


def test_only_train_unfreezes_what_the_stage_freezes(vlm: VideoLanguageModel) -> None:
    apply_stage(vlm, "align", rules({"match": "language_model.lm_head.*", "train": True, "lr_scale": 0.2}))
    assert "language_model.lm_head.weight" not in frozen_names(vlm)
    assert "language_model.model.embed_tokens.weight" in frozen_names(vlm)
    (problem,) = problems(vlm, "align", rules({"match": "*.lm_head.*", "lr_scale": 0.2}))
    assert "trainable[0].match: '*.lm_head.*' matches only what the stage freezes" in problem
    assert "add train: true" in problem


def test_a_block_of_the_tower_is_trained_where_a_rule_says_so() -> None:
    given = rules({"match": "vision.vit.blocks.1.*", "train": True})
    assert trains_tower("finetune", given)
    assert not trains_tower("finetune", rules({"match": "vision.*", "freeze": True}))
    vlm = build("align")
    apply_stage(vlm, "finetune", given)
    trained = {name for name, value in vlm.core.named_parameters() if value.requires_grad}
    tower = {name for name in trained if name.startswith("vision.")}
    assert tower == {f"vision.{name}" for name, _ in vlm.tower.named_parameters() if ".blocks.1." in name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"match": "language_model.model.embed_token.*", "freeze": True},
            "matches no parameter; the nearest is 'language_model.model.embed_tokens.weight'",
        ),
        (
            {"match": "vision.vit.block.0.*", "freeze": True},
            "matches no parameter; the nearest is 'vision.vit.blocks.0.norm1.weight'",
        ),
        ({"match": "vision.vit.blocks.2.*", "train": True}, "the features don't depend on it"),
        ({"match": "*.norm*", "train": True}, "a rule that trains the tower begins with 'vision.'"),
    ],
)
def test_rules_that_can_not_be_followed_are_refused(vlm: VideoLanguageModel, given, message) -> None:
    (problem,) = problems(vlm, "finetune", rules(given))
    assert message in problem


def test_rules_behind_others_and_nothing_left_to_train_are_refused(vlm: VideoLanguageModel) -> None:
    found = problems(
        vlm,
        "finetune",
        rules(
            {"match": "projector.*", "lr_scale": 0.5},
            {"match": "projector.0.*", "freeze": True},
            {"match": "x", "freeze": True},
        ),
    )
    assert "trainable[1].match: 'projector.0.*' matches only what earlier rules decide" in found[0]
    assert "trainable[2].match: 'x' matches no parameter" in found[1]
    (problem,) = problems(vlm, "finetune", rules({"match": "*", "freeze": True}))
    assert "nothing is left to train" in problem


TINY = ["--dataset.manifest", "out/l4/manifest.json", "--model.type", "tiny"]


def load(*flags: str) -> PretrainConfig:
    return load_pretrain_config(parse_flags([*TINY, *flags], model=PretrainConfig))


def test_flags_of_adapters_and_rules() -> None:
    config = load(
        *("--lora.rank", "64", "--lora.alpha", "16", "--lora.dropout", "0.05"),
        *("--lora.targets", '["*_proj"]'),
        *(
            "--trainable",
            '[{match: "*.embed_tokens.*", freeze: true}, {match: "projector.*", lr_scale: 0.1}]',
        ),
    )
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (64, 16.0, 0.05)
    assert config.lora.targets == ["*_proj"]
    assert config.trainable == rules(
        {"match": "*.embed_tokens.*", "freeze": True}, {"match": "projector.*", "lr_scale": 0.1}
    )
    assert load().lora.rank is None
    assert load("--lora.rank", "2", "--lora.targets", "q_proj", "v_proj").lora.targets == ["q_proj", "v_proj"]
    assert load("--lora.rank", "2", "--lora.targets", "*_proj").lora.targets == ["*_proj"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lora.alpha", "32"], "lora.alpha: has no effect without --lora.rank"),
        (
            ["--lora.rank", "4", "--stage", "align", "--model.arch_specifier", "gelu-mlp"],
            "lora.rank: stage align trains the projector alone",
        ),
        (["--lora.rank", "0"], "lora.rank"),
        (["--lora.rank", "4", "--lora.dropout", "1.0"], "lora.dropout"),
        (["--trainable", "[{match: x}]"], "says nothing; add freeze: true"),
        (
            ["--trainable", "[{match: x, freeze: true, lr_scale: 0.1}]"],
            "freeze contradicts train and lr_scale",
        ),
        (["--trainable", "[{mtach: x, freeze: true}]"], "did you mean 'match'?"),
    ],
)
def test_settings_that_say_nothing_or_contradict_each_other_are_refused(flags, message) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    assert any(message in problem for problem in caught.value.problems), caught.value.problems
