"""The FLOP convention against torch's own counter, on a real ViT and a real Llama."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_vlm import SETTINGS, make_batch, make_vlm
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from weave_data.torchvision_ops import install
from weave_train.config import LoraConfig, StageId, TrainableRule
from weave_train.engine.stages import apply_stage
from weave_train.models.lora import add_lora, merge_lora
from weave_train.models.model import VideoLanguageModel
from weave_train.numbers import Flops, FlopsModel, flops_model
from weave_train.rows.batch import Batch, dummy_batch

STAGES: tuple[StageId, ...] = ("align", "finetune", "full-finetune")


@pytest.fixture
def vlm() -> VideoLanguageModel:
    return make_vlm()


def measured(vlm: VideoLanguageModel, batch: Batch) -> int:
    """What torch computes forward and backward, attention as plain matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        vlm.core(vlm.frozen_features(batch), batch).backward()
    return int(counter.get_total_flops())


def with_full_attention(model: FlopsModel) -> FlopsModel:
    """Torch multiplies the whole square of a causal model's scores."""
    attention = model.layers_attention
    return dataclasses.replace(model, layers_attention=attention + attention)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("recompute", [False, True])
def test_hardware_flops_are_those_torch_counts(
    vlm: VideoLanguageModel, stage: StageId, recompute: bool
) -> None:
    apply_stage(vlm, stage)
    if recompute:
        vlm.core.recompute_activations()
    batch = make_batch(vlm, [4, 1, 0, 2])
    model = with_full_attention(flops_model(vlm, recompute=recompute))
    assert model.of_batch(batch).hardware == pytest.approx(measured(vlm, batch), rel=1e-9)


FUSED = ("dinosiglip-vit-so-384px", "dinoclip-vit-l-336px+pool2", "siglip-vit-so400m-384px+pool2")


@pytest.mark.usefixtures("small_towers")
@pytest.mark.parametrize("vision_id", FUSED)
@pytest.mark.parametrize("stage", ["align", "full-finetune"])
def test_members_of_a_tower_and_pooled_tokens_are_counted(vision_id: str, stage: StageId) -> None:
    vlm = make_vlm(settings=SETTINGS.model_copy(update={"vision_backbone_id": vision_id}))
    apply_stage(vlm, stage)
    vlm.core.recompute_activations()
    batch = make_batch(vlm, [3, 0, 1])
    model = with_full_attention(flops_model(vlm, recompute=True))
    assert model.of_batch(batch).hardware == pytest.approx(measured(vlm, batch), rel=1e-9)


@pytest.mark.parametrize("stage", STAGES)
def test_model_flops_are_those_of_rows_without_padding(vlm: VideoLanguageModel, stage: StageId) -> None:
    apply_stage(vlm, stage)
    model = with_full_attention(flops_model(vlm, recompute=True))
    alone = sum(measured(vlm, make_batch(vlm, [frames])) for frames in (4, 1, 2))
    assert model.of_batch(make_batch(vlm, [4, 1, 2])).model == pytest.approx(alone, rel=1e-9)


RULES = {
    "lora": [],
    "lora-of-some": [],
    "lora-and-head": [TrainableRule(match="language_model.lm_head.*", train=True)],
    "no-embedding": [TrainableRule(match="*.embed_tokens.*", freeze=True)],
    "upper-layer": [TrainableRule(match="*.layers.1.*", freeze=True)],
    "adapters-alone": [TrainableRule(match="projector.*", freeze=True)],
    "patches": [
        TrainableRule(match="vision.vit.patch_embed.*", freeze=True),
        TrainableRule(match="vision.vit.pos_embed", freeze=True),
        TrainableRule(match="vision.vit.cls_token", freeze=True),
        TrainableRule(match="vision.vit.blocks.0.*", freeze=True),
    ],
    "tower-alone": [
        TrainableRule(match="language_model.*", freeze=True),
        TrainableRule(match="projector.*", freeze=True),
    ],
    "head-alone": [TrainableRule(match="*lm_head*", lr_scale=1.0), TrainableRule(match="*", freeze=True)],
}


def choose(vlm: VideoLanguageModel, name: str) -> float:
    """Freeze as the rules say; how far the convention may be off."""
    lora = {"targets": ["q_proj", "down_proj"]} if name == "lora-of-some" else {}
    if name.startswith("lora") or name == "adapters-alone":
        add_lora(vlm.core, LoraConfig(rank=4, **lora), seed=1)
    apply_stage(vlm, "full-finetune" if name in ("patches", "tower-alone") else "finetune", RULES[name])
    # the lowest trained block's weights side by side count as one after the other
    return 0.05 if name in ("adapters-alone", "patches") else 1e-9


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("recompute", [False, True])
def test_adapters_and_frozen_weights_cost_what_torch_counts(
    vlm: VideoLanguageModel, name: str, recompute: bool
) -> None:
    tolerance = choose(vlm, name)
    if recompute:
        vlm.core.recompute_activations()
    batch = make_batch(vlm, [4, 1, 0, 2])
    model = with_full_attention(flops_model(vlm, recompute=recompute))
    assert model.of_batch(batch).hardware == pytest.approx(measured(vlm, batch), rel=tolerance)


def test_frozen_weights_under_adapters_cost_4_n_and_adapters_6_n(vlm: VideoLanguageModel) -> None:
    plain = flops_model(vlm, recompute=False).layers.forward
    add_lora(vlm.core, LoraConfig(rank=4), seed=1)
    apply_stage(vlm, "finetune")
    adapters = sum(value.numel() for name, value in vlm.core.named_parameters() if ".lora_" in name)
    assert flops_model(vlm, recompute=False).layers.model_flops(1) == 4 * plain + 6 * adapters
    merge_lora(vlm.core)
    assert flops_model(vlm, recompute=False).layers.forward == plain


def test_a_frozen_language_model_costs_two_thirds_of_a_trained_one(vlm: VideoLanguageModel) -> None:
    apply_stage(vlm, "finetune")
    trained = flops_model(vlm, recompute=False).layers
    apply_stage(vlm, "align")
    frozen = flops_model(vlm, recompute=False).layers
    assert frozen.model_flops(1) == pytest.approx(4 * frozen.forward)
    assert trained.model_flops(1) == pytest.approx(6 * frozen.forward)


def test_causal_attention_counts_half_the_pairs(vlm: VideoLanguageModel) -> None:
    model = flops_model(vlm, recompute=False)
    # two layers of width 96, forward and backward: 3 * 4 * 2 * 96 for each of 100 * 100 / 2 pairs
    short, twice = (model.of_rows([n], num_frames=0, num_supervised=0) for n in (100, 200))
    assert twice - 2 * short == pytest.approx(3 * 4 * 2 * 96 * (200**2 - 2 * 100**2) / 2)


def test_a_dummy_batch_is_no_useful_work(vlm: VideoLanguageModel) -> None:
    model = flops_model(vlm, recompute=False)
    flops = model.of_batch(dummy_batch(pad_id=0, settings=vlm.settings))
    assert flops.model == 0
    assert flops.hardware > 0
    assert flops + Flops(1.0, 2.0) == Flops(1.0, flops.hardware + 2.0)


def test_partitioned_parameters_count_as_whole() -> None:
    whole, cut = make_vlm(), make_vlm()
    for parameter in cut.core.parameters():
        parameter.ds_shape, parameter.ds_numel = parameter.shape, parameter.numel()  # type: ignore[attr-defined]
        parameter.data = torch.empty(0)
    assert flops_model(cut, recompute=True) == flops_model(whole, recompute=True)


def test_grouped_keys_and_a_tied_head_are_counted_as_they_multiply() -> None:
    install()
    from transformers import LlamaConfig

    vlm = make_vlm(
        LlamaConfig(
            vocab_size=320,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=3,
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
        )
    )
    vlm.core.requires_grad_(True).train()
    batch = make_batch(vlm, [3, 1])
    model = with_full_attention(flops_model(vlm, recompute=False))
    assert model.of_batch(batch).hardware == pytest.approx(measured(vlm, batch), rel=1e-9)
