"""LlavaForConditionalGeneration: which models it can hold, its configuration and its weights.

    ours                              theirs, in the names of the files on the hub
    tower                             vision_tower.vision_model.*           see `native_tower`
    projector 0, 2 (gelu-mlp)         multi_modal_projector.linear_1, linear_2
    projector 0 (linear)              the same: linear_2 is the identity, the activation `linear`
    language model                    language_model.model.*, language_model.lm_head.weight

transformers renames these when it loads them, in every version so far; other programs know only them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from weave_train.exports.native_tower import NativeTower, native_tower, tower_misfit
from weave_train.exports.vocabulary import Vocabulary, padded_rows
from weave_train.models.language import embedding_scale
from weave_train.models.model import VideoLanguageModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["llava_config", "llava_misfits", "llava_weights"]

_SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def llava_misfits(vlm: VideoLanguageModel) -> list[str]:
    """What keeps a model from being a LLaVA; empty when nothing does."""
    settings, language_model = vlm.settings, vlm.core.language_model
    problems = []
    vits = vlm.tower.vits
    misfit = tower_misfit(vits[0]) if len(vits) == 1 else "joins several ViTs"
    if misfit is not None:
        problems.append(f"tower {settings.vision_backbone_id} {misfit}")
    if vlm.tower.spec.pool != 1:
        problems.append(f"tower {settings.vision_backbone_id} averages patches, which LLaVA does not")
    if settings.projector_id not in ("linear", "gelu-mlp"):
        problems.append(f"projector {settings.projector_id} has more layers than LLaVA's")
    head, config = language_model.get_output_embeddings(), language_model.config
    name = type(language_model).__name__
    if not isinstance(head, nn.Linear) or head.bias is not None:
        problems.append(f"language model {name} has a head that is no matrix alone")
    scaled = [key for key in _SCALED_LOGITS if getattr(config, key, None) not in (None, 1.0)]
    if scaled:
        problems.append(f"language model {name} sets {scaled[0]}, which LLaVA leaves out")
    return problems


def llava_config(vlm: VideoLanguageModel, vocabulary: Vocabulary) -> PretrainedConfig:
    """LlavaConfig of a model without `llava_misfits`."""
    from transformers import LlavaConfig

    tower = native_tower(vlm.tower.vit)
    text = copy.deepcopy(vlm.core.language_model.config)
    text.vocab_size, text.use_cache, text._name_or_path = vocabulary.num_rows, True, ""
    return LlavaConfig(
        vision_config=tower.config,
        text_config=text,
        image_token_index=vocabulary.image_id,
        image_seq_length=vlm.tower.spec.patches_per_frame,
        projector_hidden_act="linear" if vlm.settings.projector_id == "linear" else "gelu",
        vision_feature_select_strategy=tower.select_strategy,
        vision_feature_layer=-2,
        multimodal_projector_bias=True,
        tie_word_embeddings=bool(text.tie_word_embeddings),
        architectures=["LlavaForConditionalGeneration"],
    )


def llava_weights(vlm: VideoLanguageModel, vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """All tensors under the names of the files on the hub; tied ones once."""
    tower: NativeTower = native_tower(vlm.tower.vit)
    weights = {f"vision_tower.vision_model.{name}": value for name, value in tower.weights.items()}
    weights |= {f"multi_modal_projector.{name}": value for name, value in _projector(vlm).items()}
    weights |= {f"language_model.{name}": value for name, value in _language(vlm, vocabulary).items()}
    return weights


def _projector(vlm: VideoLanguageModel) -> dict[str, torch.Tensor]:
    """Two layers; what the Gemmas multiply visual tokens with goes into the last of our own."""
    ours = vlm.core.projector.state_dict()
    scale = embedding_scale(vlm.core.language_model)
    is_linear = vlm.settings.projector_id == "linear"
    weights = {}
    for kind in ("weight", "bias"):
        weights[f"linear_1.{kind}"] = ours[f"0.{kind}"] * (scale if is_linear else 1.0)
        if not is_linear:
            weights[f"linear_2.{kind}"] = ours[f"2.{kind}"] * scale
    if is_linear:
        bias = ours["0.bias"]
        weights["linear_2.weight"] = torch.eye(len(bias), dtype=bias.dtype)
        weights["linear_2.bias"] = torch.zeros_like(bias)
    return weights


def _language(vlm: VideoLanguageModel, vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """`model.*` and `lm_head.weight`, whatever the class calls its body and its head."""
    language_model: Any = vlm.core.language_model
    body = language_model.base_model
    weights = {f"model.{name}": value for name, value in body.state_dict().items()}
    embedding, head = body.get_input_embeddings().weight, language_model.get_output_embeddings().weight
    (embedding_name,) = (name for name, value in body.named_parameters() if value is embedding)
    weights[f"model.{embedding_name}"] = padded_rows(embedding, vocabulary.num_rows)
    if head is not embedding:
        weights["lm_head.weight"] = padded_rows(head, vocabulary.num_rows)
    return weights
