"""Small models of the real architectures, all weights random, and runs made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stored_pieces import cut_evenly, write_checkpoint
from torch import nn

from weave_data.storage import LocalStore
from weave_data.torchvision_ops import install
from weave_train.checkpoint.frozen import frozen_sha256, save_frozen
from weave_train.config import ModelSettings
from weave_train.loading import save_model_files
from weave_train.models.language import embedding_shape
from weave_train.models.model import VideoLanguageCore, VideoLanguageModel
from weave_train.models.projector import build_projector
from weave_train.models.seeding import seeded_weights
from weave_train.models.vision import VisionTower
from weave_train.towers import TOWERS, TowerSpec

__all__ = [
    "FAMILIES",
    "TOWER_KINDS",
    "language_model",
    "make_vlm",
    "rebuild_tower",
    "small_spec",
    "small_vit",
    "write_run",
]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma")
TOWER_KINDS = ("clip", "siglip")


def small_spec(vision_backbone_id: str, *, image_px: int = 32, patch_px: int = 8, dim: int = 32) -> TowerSpec:
    """The spec of a registered tower with the sizes of a `small_vit`."""
    (member,) = TOWERS[vision_backbone_id].members
    return TowerSpec(image_px, (replace(member, patch_px=patch_px, dim=dim),))


def small_vit(kind: str, **shape: Any) -> nn.Module:
    """timm's ViT as `vit_*_clip_*.openai` with the quick GELU, or `vit_*_siglip_*`, made small."""
    install()
    from timm.layers import LayerNorm
    from timm.models.vision_transformer import VisionTransformer

    size: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}
    forms: dict[str, dict[str, Any]] = {
        "clip": {"pre_norm": True, "norm_layer": partial(LayerNorm, eps=1e-5), "act_layer": "quick_gelu"},
        "siglip": {"class_token": False, "global_pool": "map"},
    }
    with seeded_weights(1):
        vit: nn.Module = VisionTransformer(num_classes=0, **(size | shape), **forms[kind])
    return vit


def rebuild_tower(settings: ModelSettings, *, with_weights: bool = True) -> VisionTower:
    """`build_tower` for the small ones."""
    assert not with_weights
    kind = settings.vision_backbone_id.removeprefix("small-")
    return VisionTower([small_vit(kind)], TOWERS[settings.vision_backbone_id]).eval().requires_grad_(False)


def language_model(family: str, *, vocab_size: int, **shape: Any) -> Any:
    """transformers' causal LM of a family, small."""
    install()
    from transformers import AutoConfig, AutoModelForCausalLM

    size: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 512,
    }
    config = AutoConfig.for_model(family, **(size | shape))
    with seeded_weights(2):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def make_vlm(
    tokenizer: Any,
    *,
    tower: str = "clip",
    vision_id: str | None = None,
    build: Callable[..., VisionTower] | None = None,
    family: str = "llama",
    projector: str = "gelu-mlp",
    vit: nn.Module | None = None,
    language: Any = None,
    rows: int = 320,
    image_resize_strategy: str = "resize-naive",
) -> VideoLanguageModel:
    """A model whose every weight and bias is random: none that is exchanged or forgotten goes unseen."""
    settings = ModelSettings(
        vision_backbone_id=vision_id or f"small-{tower}",
        vision_weights="random",
        arch_specifier=f"no-align+{projector}",
        precision="fp32",
        llm_max_length=256,
        num_frames=2,
        image_resize_strategy=image_resize_strategy,
    )
    if build is None:
        vit = small_vit(tower) if vit is None else vit
        module = VisionTower([vit], TOWERS[settings.vision_backbone_id])
    else:
        module = build(settings)
    language = language_model(family, vocab_size=rows) if language is None else language
    core = VideoLanguageCore(
        build_projector(projector, vision_dim=module.spec.dim, text_dim=embedding_shape(language)[1]),
        language,
    )
    vlm = VideoLanguageModel(tower=module, core=core, settings=settings, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in (vlm.tower, vlm.core):
            for value in module.parameters():
                scale = 0.3 / value.shape[-1] ** 0.5 if value.ndim > 1 else 0.1
                value.add_(torch.randn(value.shape, generator=generator) * scale)
    vlm.tower.eval().requires_grad_(False)
    vlm.core.eval().requires_grad_(False)
    return vlm


def write_run(vlm: VideoLanguageModel, run_dir: Path, *, step: int = 30) -> Path:
    """A run of stage finetune, as the trainer leaves it."""
    save_model_files(vlm, run_dir)
    (run_dir / "config.json").write_text(json.dumps({"model": vlm.settings.model_dump(mode="json")}))
    digest = frozen_sha256(vlm.tower)
    save_frozen(LocalStore(run_dir), "vision", vlm.tower, sha256=digest)
    weights = dict(vlm.core.named_parameters())
    shapes = {name: value.shape for name, value in weights.items()}
    write_checkpoint(
        LocalStore(run_dir), cut_evenly(weights, 2), step=step, shapes=shapes, frozen={"vision": digest}
    )
    return run_dir
