"""Models of a profile at their published sizes, without memory: every tensor on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weave_data.config import read_yaml
from weave_data.torchvision_ops import install
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.engine.stages import apply_stage
from weave_train.languages import LANGUAGES
from weave_train.models.model import VideoLanguageCore, VideoLanguageModel
from weave_train.models.projector import build_projector
from weave_train.models.vision import build_tower
from weave_train.train.run_directory import model_settings

FOLDER = Path(__file__).parents[2] / "cluster_configs"


def profile(name: str) -> PretrainConfig:
    path = FOLDER / "profiles" / name / "train.yaml"
    values = read_yaml(path.read_text(encoding="utf-8"), origin=str(path))
    return load_pretrain_config([], values=values, origin=str(path))


def published_model(config: PretrainConfig) -> VideoLanguageModel:
    install()
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = model_settings(config, {}).model_copy(update={"vision_weights": "random"})
    spec = LANGUAGES[settings.llm_backbone_id]
    sizes = {**spec.sizes, "vocab_size": spec.embedding_rows}
    with torch.device("meta"):
        tower = build_tower(settings)
        language = AutoModelForCausalLM.from_config(AutoConfig.for_model(spec.model_type, **sizes))
        projector = build_projector(
            settings.projector_id,
            vision_dim=tower.spec.dim,
            text_dim=language.get_input_embeddings().embedding_dim,
        )
    no_tokenizer: Any = None  # rows are lengths
    vlm = VideoLanguageModel(
        tower=tower, core=VideoLanguageCore(projector, language), settings=settings, tokenizer=no_tokenizer
    )
    apply_stage(vlm, config.stage)
    return vlm
