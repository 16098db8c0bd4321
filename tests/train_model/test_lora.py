"""Adapters begin as the model they are added to, are all that is trained of it, and merge into it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from weave_data.errors import ConfigError
from weave_train.config import LoraConfig, ModelSettings, TrainableRule
from weave_train.engine.stages import apply_stage
from weave_train.models.lora import RowDraws, add_lora, is_adapter, merge_lora, target_layers
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.rows.batch import EncodedRow, collate, dummy_batch

LORA = LoraConfig(rank=4, alpha=6.0)
LAST = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def move_adapters(vlm: VideoLanguageModel) -> None:
    """Stand-in for training: B is no longer 0."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in vlm.core.named_parameters():
            if is_adapter(name):
                value.add_(torch.randn(value.shape, generator=generator) * 0.2)


def loss_of(vlm: VideoLanguageModel, rows: list[EncodedRow]) -> torch.Tensor:
    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    return vlm.core(vlm.frozen_features(batch), batch)


def gradients(vlm: VideoLanguageModel, rows: list[EncodedRow], *, step: int = 0) -> dict[str, torch.Tensor]:
    vlm.core.zero_grad()
    if vlm.core.draws is not None:
        vlm.core.draws.step = step
    loss_of(vlm, rows).backward()
    return {name: value.grad.clone() for name, value in vlm.core.named_parameters() if value.grad is not None}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=2e-6)


def test_adapters_begin_as_the_model_and_are_trained_with_the_projector(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    before = loss_of(vlm, mixed_rows)
    names = [name for name, _ in vlm.core.named_parameters()]
    add_lora(vlm.core, LORA, seed=7)
    apply_stage(vlm, "finetune")
    assert torch.equal(loss_of(vlm, mixed_rows), before)
    trained = {name for name, value in vlm.core.named_parameters() if value.requires_grad}
    assert {name for name in trained if not is_adapter(name)} == {
        name for name in names if name.startswith("projector.")
    }
    layers = {name.split(".lora_")[0] for name in trained if is_adapter(name)}
    blocks = [f"language_model.model.layers.{i}." for i in (0, 1)]
    assert layers == {
        f"{block}{'mlp' if last in LAST[4:] else 'self_attn'}.{last}" for block in blocks for last in LAST
    }


def test_adapters_are_a_function_of_the_seed_alone(settings: ModelSettings, tokenizer: Any) -> None:
    made = []
    for seed in (1, 1, 2):
        torch.rand(len(made) + 1)  # another state of the process's stream
        vlm = build_model(settings, tokenizer)
        before = torch.get_rng_state()
        add_lora(vlm.core, LORA, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        made.append({name: value for name, value in vlm.core.named_parameters() if is_adapter(name)})
    assert all(torch.equal(made[0][name], value) for name, value in made[1].items())
    for name, value in made[2].items():
        assert bool((value == 0).all()) if ".lora_B." in name else not torch.equal(made[0][name], value)


def test_merged_weights_are_w_plus_scaled_b_a_and_give_the_same_logits(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    plain = copy.deepcopy(vlm.core.language_model.state_dict())
    add_lora(vlm.core, LORA, seed=7)
    move_adapters(vlm)
    adapters = {name: value.detach().clone() for name, value in vlm.core.named_parameters()}
    vlm.core.eval()
    embeds = torch.randn(2, 9, 96, generator=torch.Generator().manual_seed(5))
    apart = vlm.core.language_model(inputs_embeds=embeds).logits
    assert not torch.allclose(apart, build_logits(plain, vlm, embeds), rtol=1e-2)
    merge_lora(vlm.core)
    merged = vlm.core.language_model.state_dict()
    torch.testing.assert_close(
        vlm.core.language_model(inputs_embeds=embeds).logits, apart, rtol=1e-5, atol=1e-5
    )
    assert merged.keys() == plain.keys()
    for name, value in plain.items():
        prefix = f"language_model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.default.weight" in adapters:
            a, b = (adapters[f"{prefix}.lora_{which}.default.weight"] for which in "AB")
            torch.testing.assert_close(merged[name], value + 6.0 / 4 * b @ a)
        else:
            assert torch.equal(merged[name], value)


def build_logits(
    weights: dict[str, torch.Tensor], vlm: VideoLanguageModel, embeds: torch.Tensor
) -> torch.Tensor:
    other = build_model(vlm.settings, vlm.tokenizer).core.language_model.eval()
    other.load_state_dict(weights)
    return other(inputs_embeds=embeds).logits


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["*_proj"], LAST),
        (["q_proj", "model.layers.1.mlp.*"], ("q_proj", "gate_proj", "up_proj", "down_proj")),
    ],
)
def test_targets_are_globs_over_names_or_last_words(vlm: VideoLanguageModel, targets, expected) -> None:
    found = target_layers(vlm.core.language_model, targets)
    assert {name.rpartition(".")[2] for name in found} == set(expected)
    if "model.layers.1.mlp.*" in targets:
        assert sum("mlp" in name for name in found) == 3


def test_a_target_that_matches_nothing_names_the_nearest(vlm: VideoLanguageModel) -> None:
    with pytest.raises(ConfigError) as caught:
        add_lora(vlm.core, LoraConfig(rank=2, targets=["q_porj", "lm_head", "*"]), seed=1)
    assert "'q_porj' matches no linear layer" in caught.value.problems[0]
    assert "did you mean 'q_proj'?" in caught.value.problems[0]
    assert "'lm_head' matches no linear layer" in caught.value.problems[1]


RULES = {
    "adapters": [],
    "frozen-embedding": [TrainableRule(match="*.embed_tokens.*", freeze=True)],
    "adapters-alone": [TrainableRule(match="projector.*", freeze=True)],
}


@pytest.mark.parametrize("name", RULES)
def test_recompute_changes_no_gradient_whatever_is_frozen(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow], name: str
) -> None:
    if name.startswith("adapters"):
        add_lora(vlm.core, LoraConfig(rank=4, dropout=0.3), seed=7)
        move_adapters(vlm)
    apply_stage(vlm, "finetune", RULES[name])
    expected = gradients(vlm, mixed_rows)
    vlm.core.recompute_activations()
    assert_close(gradients(vlm, mixed_rows), expected)
    assert ("projector.0.weight" in expected) == (name != "adapters-alone")
    trained = {name for name, value in vlm.core.named_parameters() if value.requires_grad}
    assert expected.keys() == trained
    assert all(bool(value.any()) for value in expected.values())


def test_dropout_of_a_row_does_not_depend_on_its_neighbours(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    add_lora(vlm.core, LoraConfig(rank=4, dropout=0.3), seed=7)
    move_adapters(vlm)
    apply_stage(vlm, "finetune")
    together = gradients(vlm, mixed_rows)
    alone = [gradients(vlm, [row]) for row in reversed(mixed_rows)]
    for name, value in together.items():
        difference = sum(one[name] for one in alone) - value
        assert float(difference.norm() / value.norm()) < 1e-3, name  # other masks: above 0.1
    assert_close(gradients(vlm, mixed_rows), together)
    name = "language_model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
    difference = gradients(vlm, mixed_rows, step=1)[name] - together[name]
    assert float(difference.norm() / together[name].norm()) > 0.1
    vlm.core.eval()
    evaluated = loss_of(vlm, mixed_rows)
    merge_lora(vlm.core)
    torch.testing.assert_close(loss_of(vlm, mixed_rows), evaluated)


def test_dropout_keeps_its_share_scales_it_and_leaves_dummies_alone(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    draws, batch = RowDraws(seed=1), collate(mixed_rows, pad_id=0)
    draws.begin(batch)
    x = torch.empty(*batch.input_ids.shape, 500)
    kept = draws.kept(x, layer=0, rate=0.2)
    real = kept[batch.attention_mask]
    assert set(real.unique().tolist()) == {0.0, 1.25}
    assert float(real.mean()) == pytest.approx(1.0, abs=0.01)
    assert bool((kept[~batch.attention_mask] == 1).all())
    assert not torch.equal(kept, draws.kept(x, layer=1, rate=0.2))
    draws.begin(dummy_batch(pad_id=0, settings=vlm.settings))
    assert bool((draws.kept(torch.empty(1, 2, 5), layer=0, rate=0.2) == 1).all())
