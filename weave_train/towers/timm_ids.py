"""`timm:NAME`: any ViT of TIMM, with sizes and transform as TIMM states them."""

from __future__ import annotations

import functools
from typing import Any

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.config import nearest
from weave_train.towers.spec import MemberSpec, TowerSpec

__all__ = ["PREFIX", "timm_spec"]

PREFIX = "timm:"


@functools.cache
def timm_spec(timm_name: str) -> TowerSpec:
    """Spec of a TIMM model, built once without memory for its weights.

    Args:
        timm_name: `architecture` (TIMM's default tag) or `architecture.tag`.

    Raises:
        ConfigError: TIMM has no such model, naming the nearest, or it is no ViT whose square patches are
            tokens of one width.
    """
    install()
    import timm
    import torch
    from timm.data.config import resolve_model_data_config

    _check_name(timm_name)
    with torch.device("meta"):
        vit: Any = timm.create_model(timm_name, pretrained=False, num_classes=0)
    data = resolve_model_data_config(vit)
    _, height, width = data["input_size"]
    patch_px = _patch_px(vit)
    if height != width or not patch_px or data["crop_mode"] not in ("center", "squash"):
        raise _no_vit(timm_name)
    dim = _features_dim(vit, timm_name, height, (height // patch_px) ** 2)
    # OpenAI trained CLIP with the quick GELU; what others made of its weights was trained with the plain one
    quick = {"act_layer": "quick_gelu"} if vit.pretrained_cfg.get("tag") == "openai" else {}
    member = MemberSpec(
        timm_name,
        patch_px,
        dim,
        tuple(data["mean"]),
        tuple(data["std"]),
        data["crop_pct"],
        data["crop_mode"],
        data["interpolation"],
        timm_kwargs=quick,
    )
    return TowerSpec(height, (member,))


def _check_name(timm_name: str) -> None:
    import timm

    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models(exclude_filters="test_*")
    elif tag and timm_name not in (known := timm.list_pretrained(f"{architecture}.*")):
        known = known or [architecture]
    else:
        return
    close = nearest(timm_name, known)
    hint = close if close.startswith("did you mean") else "timm.list_models() names them all"
    raise ConfigError(f"model.vision_backbone_id: TIMM has no model {timm_name!r} ({hint})")


def _patch_px(vit: Any) -> int:
    """Side of its square patches; 0 where it has none."""
    sides = getattr(getattr(vit, "patch_embed", None), "patch_size", None)
    if not isinstance(sides, tuple) or len(set(sides)) != 1:
        return 0
    return int(sides[0])


def _features_dim(vit: Any, timm_name: str, image_px: int, num_patches: int) -> int:
    import torch

    try:
        features = vit.forward_intermediates(
            torch.empty((1, 3, image_px, image_px), device="meta"),
            indices=[len(vit.blocks) - 2],
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )[0]
    except (AssertionError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise _no_vit(timm_name) from error
    if features.ndim != 3 or features.shape[1] != num_patches:
        raise _no_vit(timm_name)
    return int(features.shape[2])


def _no_vit(timm_name: str) -> ConfigError:
    return ConfigError(
        f"model.vision_backbone_id: {PREFIX}{timm_name} is no ViT that a tower can be: one takes a square "
        "image, cuts it in square patches and keeps a token for each; see timm.list_models('*vit*patch*')"
    )
