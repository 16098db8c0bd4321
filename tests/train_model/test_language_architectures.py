"""Any causal LM of transformers: our core's logits, loss and FLOPs against transformers and torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, write_model
from tiny_rows import CAPTIONS, jpeg, woven_row
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.models.head import logits_of
from weave_train.models.language import LanguageOptions
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.numbers import flops_model
from weave_train.rows.batch import EncodedRow, collate, make_row
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID

SCALED = {"gemma", "gemma2", "gemma3"}
"""Whose embedding multiplies what it looks up by sqrt(width), and visual tokens with it."""


def settings_of(directory: Path, **changes: Any) -> ModelSettings:
    values = {"precision": "fp32", "llm_max_length": 256, "llm_backbone_id": f"hf:{directory}", **changes}
    return ModelSettings.model_validate(values)


def built(settings: ModelSettings, options: LanguageOptions | None = None) -> VideoLanguageModel:
    return build_model(settings, resolve_tokenizer(settings, iter([])), language_options=options)


def two_rows(vlm: VideoLanguageModel) -> list[EncodedRow]:
    frames = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
    rows = [woven_row("video", frames, CAPTIONS[0]), woven_row("text", [], "A square, and nothing else.")]
    return [make_row(row, tokenizer=vlm.tokenizer, settings=vlm.settings) for row in rows]


def reference_logits(reference: Any, vlm: VideoLanguageModel, row: EncodedRow, *, scale: float) -> Any:
    """Of transformers alone, for embeddings put together by hand: BOS, frames, text."""
    text = reference.get_input_embeddings()(row.input_ids[row.input_ids != VISUAL_TOKEN_ID])
    parts = [text[:1], text[1:]]
    if len(row.pixels):
        parts.insert(1, vlm.core.projector(vlm.encode(row.pixels)).flatten(0, 1) * scale)
    return reference(inputs_embeds=torch.cat(parts).unsqueeze(0)).logits[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_logits_and_loss_are_those_of_transformers_on_the_same_embeddings(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    directory = write_model(name, tmp_path)
    vlm = built(settings_of(directory))
    vlm.core.train()  # nothing may depend on it: dropout is off
    attention = "eager" if name == "gemma2" else "sdpa"
    reference = AutoModelForCausalLM.from_pretrained(directory, attn_implementation=attention).eval()
    assert type(reference) is type(vlm.core.language_model)
    rows = two_rows(vlm)
    scale = 8.0 if name in SCALED else 1.0
    theirs = [reference_logits(reference, vlm, row, scale=scale) for row in rows]
    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    hidden = vlm.core.language_model.base_model(
        inputs_embeds=vlm.core.embed(vlm.encode(batch.pixels), batch.input_ids),
        attention_mask=batch.attention_mask,
    ).last_hidden_state
    for index, (row, logits) in enumerate(zip(rows, theirs, strict=True)):
        ours = logits_of(vlm.core.language_model, hidden[index, : len(row.input_ids)])
        torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    expected = sum(
        torch.nn.functional.cross_entropy(
            logits[:-1], row.labels[1:], ignore_index=IGNORE_INDEX, reduction="sum"
        )
        for row, logits in zip(rows, theirs, strict=True)
    )
    loss = vlm.core(vlm.encode(batch.pixels), batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["qwen3", "gemma", "gemma2", "mistral-window", "phi-2", "phi-3", "phi-4", "cohere", "olmo2"]
)
def test_flops_are_those_torch_counts(name: str, tmp_path: Path) -> None:
    vlm = built(settings_of(write_model(name, tmp_path)), LanguageOptions(attention="eager"))
    batch = collate(two_rows(vlm), pad_id=vlm.tokenizer.pad_token_id)
    for recompute in (False, True):
        if recompute:
            vlm.core.recompute_activations()
        vlm.core.train()
        model = flops_model(vlm, recompute=recompute)
        # torch multiplies the whole square of a causal model's scores, windows or not
        model = dataclasses.replace(model, layers_attention=model.layers_attention + model.layers_attention)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            vlm.core(vlm.encode(batch.pixels), batch).backward()
        assert model.of_batch(batch).hardware == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_a_soft_cap_left_out_would_be_another_loss(tmp_path: Path) -> None:
    vlm = built(settings_of(write_model("gemma2", tmp_path)))
    batch = collate(two_rows(vlm), pad_id=vlm.tokenizer.pad_token_id)
    capped = vlm.core(vlm.encode(batch.pixels), batch).item()
    vlm.core.language_model.config.final_logit_softcapping = None
    assert vlm.core(vlm.encode(batch.pixels), batch).item() != pytest.approx(capped, rel=1e-3)


def test_a_class_that_changes_its_logits_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    original = LlamaForCausalLM.forward

    def doubled(self: Any, **arguments: Any) -> Any:
        output = original(self, **arguments)
        output.logits = output.logits * 2
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", doubled)
    with pytest.raises(ConfigError, match="changes its logits in a way that the loss does not know"):
        built(settings_of(write_model("smollm2", tmp_path)))


def test_sdpa_is_the_default_and_no_model_is_given_attention_it_lacks(tmp_path: Path) -> None:
    plain, capped = write_model("qwen2.5", tmp_path), write_model("gemma2", tmp_path)
    chosen = [
        built(settings_of(path)).core.language_model.config._attn_implementation for path in (plain, capped)
    ]
    assert chosen == ["sdpa", "eager"]
    with pytest.raises(ConfigError, match="Gemma2ForCausalLM has no sdpa"):
        built(settings_of(capped), LanguageOptions(attention="sdpa"))


def test_mixtures_of_experts_and_models_that_see_are_refused(tmp_path: Path) -> None:
    from transformers import AutoConfig

    from weave_train.models.tokenizer import train_caption_tokenizer

    for model_type, message in (
        ("qwen2_moe", "is a mixture of experts"),
        ("gemma3", "no text-only causal language model"),
        ("t5", "no text-only causal language model"),
    ):
        AutoConfig.for_model(model_type).save_pretrained(tmp_path / model_type)
        with pytest.raises(ConfigError, match=message):
            build_model(settings_of(tmp_path / model_type), train_caption_tokenizer(CAPTIONS))
