"""The model: batches add up, the tower stays still, nothing leaks into random streams, it learns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_data.errors import ConfigError, DeviceError
from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, build_model, num_visual_tokens, tower_sha256
from weave_train.models.projector import build_projector
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.models.vision import build_tower
from weave_train.rows.batch import EncodedRow, collate, dummy_batch, make_row
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID


def loss_of(vlm: VideoLanguageModel, rows: list[EncodedRow]) -> torch.Tensor:
    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    loss: torch.Tensor = vlm.core(vlm.encode(batch.pixels), batch)
    return loss


def gradients(vlm: VideoLanguageModel) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in vlm.core.named_parameters():
        assert value.grad is not None, f"{name} is not in the graph"
        found[name] = value.grad.clone()
    vlm.core.zero_grad()
    return found


def test_a_mixed_batch_is_the_sum_of_its_rows(vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]) -> None:
    together = loss_of(vlm, mixed_rows)
    together.backward()
    grads_together = gradients(vlm)
    total = 0.0
    for row in mixed_rows:
        alone = loss_of(vlm, [row])
        alone.backward()
        total += alone.item()
    grads_alone = gradients(vlm)
    assert together.item() == pytest.approx(total, rel=1e-6)
    for name, value in grads_together.items():
        torch.testing.assert_close(value, grads_alone[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_the_plain_cross_entropy_of_the_answer(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    row = mixed_rows[0]
    text_ids = row.input_ids[row.input_ids != VISUAL_TOKEN_ID]
    text = vlm.core.language_model.get_input_embeddings()(text_ids)
    visual = vlm.core.projector(vlm.encode(row.pixels)).flatten(0, 1)
    embeds = torch.cat([text[:1], visual, text[1:]]).unsqueeze(0)
    logits = vlm.core.language_model(inputs_embeds=embeds).logits[0]
    expected = torch.nn.functional.cross_entropy(
        logits[:-1], row.labels[1:], ignore_index=IGNORE_INDEX, reduction="sum"
    )
    actual = loss_of(vlm, [row])
    assert actual.dtype == torch.float32
    assert actual.shape == ()
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)


def test_frames_reach_the_loss_in_order(vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]) -> None:
    row = mixed_rows[0]
    turned = EncodedRow(row.sample_id, row.input_ids, row.labels, row.pixels.flip(0))
    assert loss_of(vlm, [row]).item() != pytest.approx(loss_of(vlm, [turned]).item(), rel=1e-6)


def test_visual_tokens_are_counted_by_one_function(
    settings: ModelSettings, mixed_rows: list[EncodedRow]
) -> None:
    for row in mixed_rows:
        expected = num_visual_tokens(len(row.pixels), settings)
        assert int((row.input_ids == VISUAL_TOKEN_ID).sum()) == expected
        assert bool((row.labels[row.input_ids == VISUAL_TOKEN_ID] == IGNORE_INDEX).all())
    assert num_visual_tokens(16, settings) == 64


def test_a_batch_without_frames_runs_the_projector_with_weight_zero(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    batch = collate([mixed_rows[1]], pad_id=vlm.tokenizer.pad_token_id)
    assert batch.pixels.shape[0] == 1
    assert batch.frames_per_row.tolist() == [0]
    loss_of(vlm, [mixed_rows[1]]).backward()
    grads = gradients(vlm)
    for name, value in grads.items():
        assert bool((value == 0).all()) == name.startswith("projector."), name


def test_a_dummy_batch_adds_nothing_but_touches_every_parameter(
    vlm: VideoLanguageModel, settings: ModelSettings
) -> None:
    batch = dummy_batch(pad_id=vlm.tokenizer.pad_token_id, settings=settings)
    assert batch.num_supervised == 0
    assert batch.sample_ids == ()
    head_inputs = []
    vlm.core.language_model.lm_head.register_forward_hook(lambda _, args, __: head_inputs.append(args[0]))
    loss = vlm.core(vlm.encode(batch.pixels), batch)
    loss.backward()
    assert loss.item() == 0.0
    assert head_inputs[0].shape[0] == 1, "hooks of partitioned weights need a tensor to hang on"
    assert all(bool((value == 0).all()) for value in gradients(vlm).values())


def test_logits_exist_only_where_something_is_supervised(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    shapes = []
    vlm.core.language_model.lm_head.register_forward_hook(lambda _, __, out: shapes.append(out.shape))
    loss_of(vlm, mixed_rows)
    assert shapes == [
        (sum(row.num_supervised for row in mixed_rows), vlm.core.language_model.config.vocab_size)
    ]


def test_the_tower_is_frozen_outside_the_core_and_does_not_move(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    before = tower_sha256(vlm.tower)
    assert not any(value.requires_grad for value in vlm.tower.parameters())
    assert not vlm.tower.training
    assert not any(module is vlm.tower for module in vlm.core.modules())
    assert not vlm.encode(mixed_rows[0].pixels).requires_grad
    optimizer = torch.optim.AdamW(vlm.core.parameters(), lr=1e-2)
    loss_of(vlm, mixed_rows).backward()
    optimizer.step()
    assert tower_sha256(vlm.tower) == before
    with torch.no_grad():
        next(vlm.tower.parameters()).add_(1e-3)
    assert tower_sha256(vlm.tower) != before


def test_tower_features_are_the_second_to_last_block_without_prefix_tokens(vlm: VideoLanguageModel) -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    vit = vlm.tower.vit
    tokens = vit._pos_embed(vit.patch_embed((pixels.float() / 255 - 0.5) / 0.5))
    for block in vit.blocks[:-1]:
        tokens = block(tokens)
    features = vlm.encode(pixels)
    assert features.shape == (3, 4, 128)
    torch.testing.assert_close(features, tokens[:, 1:])


def test_building_is_seeded_and_leaves_the_random_stream_alone(
    settings: ModelSettings, tokenizer: Any
) -> None:
    torch.manual_seed(123)
    expected = torch.rand(4)
    torch.manual_seed(123)
    first = build_model(settings, tokenizer)
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(999)
    second = build_model(settings, tokenizer)
    other = build_model(settings.model_copy(update={"seed": 8}), tokenizer)
    for (name, a), b in zip(first.core.named_parameters(), second.core.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert tower_sha256(first.tower) == tower_sha256(second.tower) != tower_sha256(other.tower)


def test_projectors_have_the_seeds_layers_and_weights() -> None:
    for name, shapes in {
        "linear": [(6, 4)],
        "gelu-mlp": [(6, 4), (6, 6)],
        "fused-gelu-mlp": [(16, 4), (6, 16), (6, 6)],
    }.items():
        projector = build_projector(name, vision_dim=4, text_dim=6)
        linears = [layer for layer in projector if isinstance(layer, torch.nn.Linear)]
        assert [tuple(layer.weight.shape) for layer in linears] == shapes
        assert all(layer.bias is not None for layer in linears)
        with torch.random.fork_rng():
            torch.manual_seed(4)
            assert torch.equal(torch.nn.Linear(4, shapes[0][0]).weight, linears[0].weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_backbone_id": "video-tiny-vitt"}, "did you mean 'video-tiny-vit'"),
        ({"vision_backbone_id": "dinov2-vitl"}, "did you mean 'dinov2-vit-l'"),
        ({"llm_backbone_id": "tiny-lama"}, "did you mean 'tiny-llama'"),
        ({"llm_backbone_id": "vicuna-v15-7"}, "did you mean 'vicuna-v15-7b'"),
        ({"llm_backbone_id": "hf:/nowhere"}, "no config.json in '/nowhere'"),
    ],
)
def test_ids_that_are_not_there_say_what_is(
    settings: ModelSettings, tokenizer: Any, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(settings.model_copy(update=changes), tokenizer)


def test_settings_refuse_what_is_not_built() -> None:
    for field, value in {
        "image_resize_strategy": "corner-pad",
        "arch_specifier": "conv",
        "precision": "fp16",
    }.items():
        with pytest.raises(ValueError, match=field):
            ModelSettings.model_validate({field: value})
    assert ModelSettings(arch_specifier="no-align+fused-gelu-mlp").projector_id == "fused-gelu-mlp"


def test_a_missing_weight_file_is_named(settings: ModelSettings) -> None:
    clip = settings.model_copy(
        update={"vision_backbone_id": "video-clip-vit-b", "vision_weights": "/nowhere.safetensors"}
    )
    with pytest.raises(DeviceError, match=r"no file '/nowhere\.safetensors'"):
        build_tower(clip)


@pytest.mark.slow
def test_clip_towers_build_without_weights_when_random_is_written_out(settings: ModelSettings) -> None:
    clip = settings.model_copy(update={"vision_backbone_id": "video-clip-vit-b", "vision_weights": "random"})
    tower = build_tower(clip)
    features = tower(torch.zeros((1, 3, 224, 224), dtype=torch.uint8))
    assert features.shape == (1, num_visual_tokens(1, clip), tower.spec.dim)
    assert type(tower.vit.blocks[0].mlp.act).__name__ == "QuickGELU"


def test_bf16_computes_in_bf16_and_sums_in_fp32(
    settings: ModelSettings, tokenizer: Any, mixed_rows: list[EncodedRow]
) -> None:
    full = loss_of(build_model(settings, tokenizer), mixed_rows)
    half = build_model(settings.model_copy(update={"precision": "bf16"}), tokenizer)
    half.core.to(torch.bfloat16)
    assert half.encode(mixed_rows[0].pixels).dtype == torch.bfloat16
    loss = loss_of(half, mixed_rows)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(full.item(), rel=1e-2)


def test_it_learns_four_samples_by_heart_and_says_them(settings: ModelSettings, tokenizer: Any) -> None:
    colours = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
    answers = {
        name: f"A {name} circle moves {where}."
        for name, where in zip(colours, ("left", "up", "down", "right"), strict=True)
    }
    frames = {name: [jpeg(rgb), jpeg(rgb)] for name, rgb in colours.items()}
    vlm = build_model(settings, tokenizer)
    rows = [
        make_row(woven_row(name, frames[name], answers[name]), tokenizer=tokenizer, settings=settings)
        for name in colours
    ]
    batch = collate(rows, pad_id=tokenizer.pad_token_id)
    features = vlm.encode(batch.pixels)
    optimizer = torch.optim.AdamW(vlm.core.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(120):
        loss = vlm.core(features, batch) / batch.num_supervised
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert first > 3.0
    assert last < 0.05
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "What happens?")
    said = {name: vlm.generate(frames[name], builder.get_prompt(), max_new_tokens=40) for name in colours}
    assert said == answers


def test_a_real_language_model_is_adopted_with_its_tokenizer(settings: ModelSettings) -> None:
    assets = os.environ.get("WEAVE_ASSETS")
    if not assets:
        pytest.skip("WEAVE_ASSETS is not set: no real language model here")
    directory = Path(assets) / "models" / "stories260k_hf"
    real = settings.model_copy(update={"llm_backbone_id": f"hf:{directory}"})
    tokenizer = resolve_tokenizer(real, iter(CAPTIONS))
    vlm = build_model(real, tokenizer)
    assert vlm.core.language_model.get_input_embeddings().num_embeddings % 64 == 0
    assert vlm.core.language_model.config._attn_implementation == "sdpa"
    ids = tokenizer("Once upon a time, there was a little", return_tensors="pt").input_ids
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(directory)
    logits = vlm.core.language_model(ids).logits[..., :512]
    torch.testing.assert_close(logits, original(ids).logits, rtol=1e-4, atol=1e-4)
    row = make_row(
        woven_row("real", [jpeg((200, 30, 30))], "Once upon a time, there was a little girl."),
        tokenizer=tokenizer,
        settings=real,
    )
    loss = loss_of(vlm, [row])
    loss.backward()
    assert 0 < loss.item() / row.num_supervised < 6
    with pytest.raises(ConfigError, match="more than the 512 positions"):
        build_model(real.model_copy(update={"llm_max_length": 1024}), tokenizer)
