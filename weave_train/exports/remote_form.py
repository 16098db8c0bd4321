"""A directory with code of its own, for models that LLaVA can't hold: any towers, projector and causal LM.

The code is `remote_code`, copied as it is: it needs transformers, torch and PIL, nothing of ours.
"""

from __future__ import annotations

import copy
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weave_train.exports.compare import Loaded
from weave_train.exports.files import check_loading, write_weights
from weave_train.exports.form import Form
from weave_train.exports.members import Member, members_of
from weave_train.exports.native_tower import activation_name, plain_misfit
from weave_train.exports.vocabulary import IMAGE_TOKEN, Vocabulary, padded_rows
from weave_train.models.language import embedding_scale
from weave_train.models.model import VideoLanguageModel

__all__ = ["REMOTE"]

_CODE = ("configuration_weave.py", "modeling_weave.py", "processing_weave.py")
_AUTO_MODEL = {
    "AutoConfig": "configuration_weave.WeaveConfig",
    "AutoModelForImageTextToText": "modeling_weave.WeaveForConditionalGeneration",
}
_AUTO_PROCESSOR = {
    "AutoImageProcessor": "processing_weave.WeaveImageProcessor",
    "AutoProcessor": "processing_weave.WeaveProcessor",
}


def _misfits(vlm: VideoLanguageModel) -> list[str]:
    found = [plain_misfit(member.vit) for member in members_of(vlm)]
    return [f"tower {vlm.settings.vision_backbone_id} {misfit}" for misfit in found if misfit is not None]


def _write_model(
    vlm: VideoLanguageModel, directory: Path, vocabulary: Vocabulary, dtype: torch.dtype
) -> None:
    from weave_train.exports.remote_code.configuration_weave import WeaveConfig

    for name in _CODE:
        code = (resources.files("weave_train.exports.remote_code") / name).read_text(encoding="utf-8")
        (directory / name).write_text(code, encoding="utf-8")
    text = copy.deepcopy(vlm.core.language_model.config)
    text.vocab_size, text.use_cache, text._name_or_path = vocabulary.num_rows, True, ""
    config = WeaveConfig(
        text_config=text,
        towers=[_shape(member.vit) for member in members_of(vlm)],
        projector=vlm.settings.projector_id,
        pool=vlm.tower.spec.pool,
        tokens_per_frame=vlm.tower.spec.patches_per_frame,
        image_token_id=vocabulary.image_id,
        visual_scale=embedding_scale(vlm.core.language_model),
        tie_word_embeddings=bool(text.tie_word_embeddings),
        architectures=["WeaveForConditionalGeneration"],
    )
    config.dtype = dtype
    config.save_pretrained(directory)
    _add(directory / "config.json", {"auto_map": _AUTO_MODEL})
    write_weights(directory, _weights(vlm, vocabulary), dtype)


def _add(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values, indent=2) + "\n", "utf-8")


def _shape(vit: Any) -> dict[str, Any]:
    """A ViT in the words of `modeling_weave.Vit`."""
    first, num_registers = vit.blocks[0], int(vit.num_reg_tokens)
    num_prefix = num_registers + (vit.cls_token is not None)
    return {
        "image_px": vit.patch_embed.img_size[0],
        "patch_px": vit.patch_embed.patch_size[0],
        "width": vit.embed_dim,
        "depth": len(vit.blocks) - 1,
        "heads": first.attn.num_heads,
        "mlp_width": first.mlp.fc1.out_features,
        "activation": activation_name(first.mlp.act),
        "eps": first.norm1.eps,
        "class_token": vit.cls_token is not None,
        "num_registers": num_registers,
        "positions_of_prefix": vit.pos_embed.shape[1] == vit.patch_embed.num_patches + num_prefix,
        "pre_norm": not isinstance(vit.norm_pre, nn.Identity),
        "patch_bias": vit.patch_embed.proj.bias is not None,
        "qkv_bias": first.attn.qkv.bias is not None,
        "layer_scale": not isinstance(first.ls1, nn.Identity),
    }


def _weights(vlm: VideoLanguageModel, vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    weights = {f"projector.{name}": value for name, value in vlm.core.projector.state_dict().items()}
    for index, member in enumerate(members_of(vlm)):
        last = f"blocks.{len(member.vit.blocks) - 1}."
        kept = ("patch_embed.", "cls_token", "reg_token", "pos_embed", "norm_pre.", "blocks.")
        for name, value in member.vit.state_dict().items():
            if name.startswith(kept) and not name.startswith(last):
                weights[f"towers.{index}.{name}"] = value
    return weights | _language(vlm.core.language_model, vocabulary)


def _language(language_model: Any, vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """All of the causal LM, tied tensors once, vocabularies of one length."""
    grows = {id(language_model.get_input_embeddings().weight)}
    head = language_model.get_output_embeddings()
    grows |= {id(value) for value in head.parameters()}
    weights = {}
    for name, value in language_model.named_parameters():  # a tied one comes once
        weights[f"language_model.{name}"] = (
            padded_rows(value.detach(), vocabulary.num_rows) if id(value) in grows else value.detach()
        )
    buffers = language_model.state_dict().keys() & dict(language_model.named_buffers()).keys()
    return weights | {f"language_model.{name}": language_model.get_buffer(name) for name in buffers}


def _write_processor(vlm: VideoLanguageModel, directory: Path, vocabulary: Vocabulary, template: str) -> None:
    from weave_train.exports.remote_code.processing_weave import WeaveImageProcessor, WeaveProcessor

    pictures = WeaveImageProcessor(members=[_transform(member) for member in members_of(vlm)])
    WeaveProcessor(
        image_processor=pictures,
        tokenizer=vocabulary.tokenizer,
        chat_template=template,
        tokens_per_frame=vlm.tower.spec.patches_per_frame,
        image_token=IMAGE_TOKEN,
    ).save_pretrained(directory)
    pictures.save_pretrained(directory)
    _add(directory / "preprocessor_config.json", {"auto_map": _AUTO_PROCESSOR})
    nested = json.loads((directory / "preprocessor_config.json").read_text("utf-8"))
    _add(directory / "processor_config.json", {"auto_map": _AUTO_PROCESSOR, "image_processor": nested})


def _transform(member: Member) -> dict[str, Any]:
    return {
        "fill": None if member.fill is None else list(member.fill),
        "resize_px": member.resize_px,
        "keeps_aspect": member.keeps_aspect,
        "crop_px": member.crop_px,
        "resample": member.resample,
        "mean": list(member.mean),
        "std": list(member.std),
    }


def _load(directory: Path) -> Loaded:
    from transformers import AutoModelForImageTextToText

    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        directory,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
        trust_remote_code=True,  # the code that was written there a moment ago
    )
    model, found = loaded
    check_loading(found)
    model.eval()
    return Loaded(model, model.encode, lambda pixels: model.project(model.encode(pixels)).flatten(0, 1))


REMOTE = Form(
    kind="hf-remote",
    instead="prismatic",
    folds_scale=False,
    runs_code=True,
    backends=(),
    misfits=_misfits,
    write_model=_write_model,
    write_processor=_write_processor,
    load=_load,
)
"""Transformers with `trust_remote_code=True`."""
