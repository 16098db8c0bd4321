"""transformers' own LLaVA, given our weights, sees, projects and answers as our model does.

fp32, eager attention on both sides, every weight random, `<image>` after BOS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import FAMILIES, TOWER_KINDS, language_model, make_vlm, small_spec, small_vit

from weave_train.exports.files import write_generation_config
from weave_train.exports.native import llava_misfits
from weave_train.exports.native_form import NATIVE
from weave_train.exports.vocabulary import export_vocabulary
from weave_train.models.language import embedding_scale
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.prompt import VISUAL_TOKEN_ID
from weave_train.towers import TOWERS

TOLERANCE = 1e-4


def difference(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    assert theirs.shape == ours.shape
    return float(((theirs - ours).abs().max() / ours.abs().max()).detach())


@torch.no_grad()
def compare(vlm: VideoLanguageModel, directory: Path, *, num_frames: int = 2) -> Any:
    """Their model, once it was shown to agree with ours on features, projector outputs and logits."""
    from transformers import LlavaForConditionalGeneration

    assert llava_misfits(vlm) == []
    vocabulary = export_vocabulary(vlm)
    NATIVE.write_model(vlm, directory, vocabulary, torch.float32)
    write_generation_config(directory, vlm, vocabulary)
    theirs, found = LlavaForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    vlm.core.language_model.set_attn_implementation("eager")
    for block in vlm.tower.vit.blocks:
        block.attn.fused_attn = False

    side, per_frame = vlm.tower.spec.image_px, vlm.tower.spec.patches_per_frame
    pixels = torch.randint(0, 256, (num_frames, 3, side, side), dtype=torch.uint8)
    (member,) = vlm.tower.spec.members
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (member.mean, member.std))
    normalised = (pixels.float() / 255 - mean) / std
    text = torch.randint(3, vocabulary.num_tokens, (9,))
    start, images = torch.tensor([vlm.tokenizer.bos_token_id]), torch.ones(num_frames * per_frame).long()
    our_ids = torch.cat([start, images * VISUAL_TOKEN_ID, text])
    their_ids = torch.cat([start, images * vocabulary.image_id, text])

    hidden = theirs.model.vision_tower(normalised, output_hidden_states=True).hidden_states[-2]
    if theirs.config.vision_feature_select_strategy == "default":
        hidden = hidden[:, 1:]
    features = vlm.tower(pixels)
    assert features.shape[1] == per_frame
    assert difference(hidden, features) < TOLERANCE
    projected = theirs.get_image_features(normalised, return_dict=True).pooler_output
    scale = embedding_scale(vlm.core.language_model)  # the Gemmas': folded into the last layer
    assert difference(torch.stack(list(projected)), vlm.core.projector(features) * scale) < TOLERANCE
    ours = vlm.core.language_model(inputs_embeds=vlm.core.embed(features, our_ids[None])).logits
    output = theirs(input_ids=their_ids[None], pixel_values=normalised).logits
    assert difference(output[..., : ours.shape[-1]], ours) < TOLERANCE
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tower", TOWER_KINDS)
def test_llava_is_our_model(tokenizer: Any, tmp_path: Path, tower: str, family: str) -> None:
    theirs = compare(make_vlm(tokenizer, tower=tower, family=family), tmp_path)
    assert type(theirs.model.vision_tower).__name__.lower() == f"{tower}visionmodel"
    assert theirs.config.text_config.model_type == family
    expected = {"clip": "quick_gelu", "siglip": "gelu"}
    assert theirs.config.vision_config.hidden_act == expected[tower]


@pytest.mark.parametrize("tower", TOWER_KINDS)
def test_what_norms_add_is_the_towers_own(tokenizer: Any, tmp_path: Path, tower: str) -> None:
    vit = small_vit(tower)
    for module in vit.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 0.03
    theirs = compare(make_vlm(tokenizer, tower=tower, vit=vit), tmp_path)
    assert theirs.config.vision_config.layer_norm_eps == 0.03


def test_a_linear_projector_is_llavas_with_the_identity_behind_it(tokenizer: Any, tmp_path: Path) -> None:
    theirs = compare(make_vlm(tokenizer, projector="linear"), tmp_path)
    assert theirs.config.projector_hidden_act == "linear"
    second = theirs.model.multi_modal_projector.linear_2
    assert torch.equal(second.weight, torch.eye(48))
    assert not second.bias.any()


@pytest.mark.parametrize("kind", ["dynamic", "linear", "yarn"])
def test_rope_scaling_survives(tokenizer: Any, tmp_path: Path, kind: str) -> None:
    rope = {"rope_type": kind, "factor": 3.0, "rope_theta": 10000.0}
    if kind == "yarn":
        rope["original_max_position_embeddings"] = 16
    language = language_model(
        "llama", vocab_size=320, max_position_embeddings=32 if kind == "dynamic" else 96, rope_parameters=rope
    )
    theirs = compare(make_vlm(tokenizer, language=language), tmp_path, num_frames=4)  # 74 tokens
    assert theirs.config.text_config.rope_parameters["rope_type"] == kind
    assert theirs.config.text_config.rope_parameters["factor"] == 3.0
    changed = make_vlm(tokenizer, language=language_model("llama", vocab_size=320))
    changed.core.load_state_dict(make_vlm(tokenizer, language=language).core.state_dict())
    ids = torch.arange(3, 73)[None]
    plain = changed.core.language_model(input_ids=ids).logits
    assert difference(theirs(input_ids=ids).logits, plain) > 1e-2  # it is no matter of rounding


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_tied_embeddings_stay_tied(tokenizer: Any, tmp_path: Path, family: str) -> None:
    language = language_model(family, vocab_size=320, tie_word_embeddings=True)
    theirs = compare(make_vlm(tokenizer, language=language), tmp_path)
    assert theirs.lm_head.weight is theirs.get_input_embeddings().weight
    assert theirs.config.tie_word_embeddings


@pytest.mark.parametrize("tied", [False, True])
def test_a_full_vocabulary_grows_by_rows_of_zeros(tokenizer: Any, tmp_path: Path, tied: bool) -> None:
    rows = len(tokenizer)
    language = language_model("llama", vocab_size=rows, tie_word_embeddings=tied)
    vlm = make_vlm(tokenizer, language=language)
    theirs = compare(vlm, tmp_path)
    assert theirs.config.image_token_index == rows
    assert theirs.config.text_config.vocab_size == len(theirs.lm_head.weight) == 320
    assert torch.equal(theirs.lm_head.weight[:rows], language.lm_head.weight)
    assert not theirs.lm_head.weight[rows:].any()
    assert theirs.generation_config.suppress_tokens == list(range(rows, 320))


def test_padding_rows_hold_the_image_token_where_there_are_some(tokenizer: Any, tmp_path: Path) -> None:
    theirs = compare(make_vlm(tokenizer), tmp_path)
    assert theirs.config.image_token_index == len(tokenizer)
    assert theirs.config.text_config.vocab_size == 320


@pytest.mark.slow
def test_real_widths_of_clip_l_and_llama_7b(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOWERS, "small-clip", small_spec("clip-vit-l", image_px=336, patch_px=14, dim=1024))
    vit = small_vit("clip", img_size=336, patch_size=14, embed_dim=1024, depth=2, num_heads=16)
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128}
    language = language_model("llama", vocab_size=320, max_position_embeddings=4096, **shape, **heads)
    vlm = make_vlm(tokenizer, vit=vit, language=language)
    theirs = compare(vlm, tmp_path, num_frames=1)
    assert theirs.config.image_seq_length == 576
    assert theirs.config.vision_config.num_attention_heads == 16
