"""Vision ids: which tower, how many pixels it takes and how many tokens a frame becomes. No torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings

__all__ = ["TOWERS", "TowerSpec", "num_visual_tokens", "tower_spec"]

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TowerSpec:
    """One vision id. `image_px` is the side of the square input, `dim` the width D."""

    timm_name: str
    image_px: int
    patch_px: int
    dim: int
    mean: tuple[float, float, float] = _CLIP_MEAN
    std: tuple[float, float, float] = _CLIP_STD

    @property
    def patches_per_frame(self) -> int:
        """P, prefix tokens not counted."""
        return (self.image_px // self.patch_px) ** 2


_CLIP_B = TowerSpec("vit_base_patch16_clip_224.openai", 224, 16, 768)
_CLIP_L = TowerSpec("vit_large_patch14_clip_224.openai", 224, 14, 1024)
_CLIP_L_336 = TowerSpec("vit_large_patch14_clip_336.openai", 336, 14, 1024)

TOWERS = {
    "video-tiny-vit": TowerSpec("tiny", 32, 16, 128, _HALF, _HALF),
    "clip-vit-b": _CLIP_B,
    "clip-vit-l": _CLIP_L,
    "clip-vit-l-336px": _CLIP_L_336,
    "video-clip-vit-b": _CLIP_B,
    "video-clip-vit-l": _CLIP_L,
    "video-clip-vit-l-336px": _CLIP_L_336,
}
"""Vision ids. `video-*` and image ids differ in nothing: T is free per sample."""

_LATER = (
    "siglip-vit-b16-224px",
    "siglip-vit-b16-256px",
    "siglip-vit-b16-384px",
    "siglip-vit-so400m",
    "siglip-vit-so400m-384px",
    "dinov2-vit-l",
    "in1k-vit-l",
    "dinoclip-vit-l-336px",
    "dinosiglip-vit-so-224px",
    "dinosiglip-vit-so-384px",
    "video-siglip-vit-so400m-384px",
    "video-dinosiglip-vit-so-384px",
)


def tower_spec(vision_backbone_id: str) -> TowerSpec:
    """Look up a vision id.

    Raises:
        ConfigError: Unknown id, naming the nearest one, or a VideoWeave id without a tower yet.
    """
    spec = TOWERS.get(vision_backbone_id)
    if spec is None:
        if vision_backbone_id in _LATER:
            raise ConfigError(
                f"model.vision_backbone_id: {vision_backbone_id!r} is not supported yet; "
                f"use one of {', '.join(TOWERS)}"
            )
        close = difflib.get_close_matches(vision_backbone_id, TOWERS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TOWERS)}"
        raise ConfigError(f"model.vision_backbone_id: unknown id {vision_backbone_id!r} ({hint})")
    return spec


def num_visual_tokens(num_frames: int, settings: ModelSettings) -> int:
    """T * P: the one place that says how many tokens a row's frames become."""
    return num_frames * tower_spec(settings.vision_backbone_id).patches_per_frame
