"""From a vision id to its tower, in every form that ids take."""

from __future__ import annotations

from dataclasses import replace

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings, nearest
from weave_train.towers.spec import TowerSpec
from weave_train.towers.table import TOWERS
from weave_train.towers.timm_ids import PREFIX, timm_spec

__all__ = ["num_visual_tokens", "tower_spec"]

_POOLED = "+pool2"


def tower_spec(vision_backbone_id: str) -> TowerSpec:
    """Look up a vision id.

    Args:
        vision_backbone_id: A row of `TOWERS`, or `timm:NAME` for any other TIMM ViT; either with `+pool2`
            behind it averages 2 x 2 patches: a quarter of the tokens (of an odd grid, rounded up).

    Raises:
        ConfigError: Unknown id, naming the nearest one, or a TIMM model that is no ViT.
    """
    base = vision_backbone_id.removesuffix(_POOLED)
    if base.startswith(PREFIX):
        spec = timm_spec(base.removeprefix(PREFIX))
    elif base in TOWERS:
        spec = TOWERS[base]
    else:
        raise ConfigError(
            f"model.vision_backbone_id: unknown id {vision_backbone_id!r} ({nearest(base, TOWERS)}); "
            f"{PREFIX}NAME takes any other ViT of TIMM, {_POOLED} behind an id averages 2 x 2 patches"
        )
    return spec if base == vision_backbone_id else replace(spec, pool=2)


def num_visual_tokens(num_frames: int, settings: ModelSettings) -> int:
    """T * P: the one place that says how many tokens a row's frames become."""
    return num_frames * tower_spec(settings.vision_backbone_id).patches_per_frame
