"""A LLaVA directory: configuration, weights, processor, and how it is loaded back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weave_train.exports.compare import Loaded
from weave_train.exports.files import check_loading, write_weights
from weave_train.exports.form import Form
from weave_train.exports.native import llava_config, llava_misfits, llava_weights
from weave_train.exports.native_tower import native_tower
from weave_train.exports.pictures import preprocessor_settings
from weave_train.exports.vocabulary import IMAGE_TOKEN, Vocabulary
from weave_train.models.model import VideoLanguageModel

__all__ = ["NATIVE"]


def _write_model(
    vlm: VideoLanguageModel, directory: Path, vocabulary: Vocabulary, dtype: torch.dtype
) -> None:
    config = llava_config(vlm, vocabulary)
    config.dtype = dtype
    config.save_pretrained(directory)
    write_weights(directory, llava_weights(vlm, vocabulary), dtype)


def _write_processor(vlm: VideoLanguageModel, directory: Path, vocabulary: Vocabulary, template: str) -> None:
    from transformers import LlavaImageProcessor, LlavaProcessor

    tower = native_tower(vlm.tower.vit)
    pictures = LlavaImageProcessor(**preprocessor_settings(vlm))
    processor = LlavaProcessor(
        image_processor=pictures,
        tokenizer=vocabulary.tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy=tower.select_strategy,
        num_additional_image_tokens=tower.prefix_tokens,
        image_token=IMAGE_TOKEN,
        chat_template=template,
    )
    processor.save_pretrained(directory)
    pictures.save_pretrained(directory)  # programs older than processor_config.json read this one


def _load(directory: Path) -> Loaded:
    from transformers import AutoModelForImageTextToText

    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        directory,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
        trust_remote_code=False,
    )
    model, found = loaded
    check_loading(found)
    model.eval()
    strategy, layer = model.config.vision_feature_select_strategy, model.config.vision_feature_layer

    def features(pixels: torch.Tensor) -> torch.Tensor:
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
        return hidden[:, 1:] if strategy == "default" else hidden

    def projected(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(model.get_image_features(pixels, return_dict=True).pooler_output))

    return Loaded(model, features, projected)


NATIVE = Form(
    kind="hf",
    instead="hf-remote or prismatic",
    folds_scale=True,
    runs_code=False,
    backends=("torchvision", "pil"),
    misfits=llava_misfits,
    write_model=_write_model,
    write_processor=_write_processor,
    load=_load,
)
"""`LlavaForConditionalGeneration`, which plain transformers loads."""
