"""Vision towers: uint8 frames in, one feature vector per patch out.

    pixels_F3HW (uint8) -> / 255, normalise -> timm ViT up to its second-to-last block -> [F, P, D]

Shapes: F frames, P patches per frame, D width. A row's visual tokens are the P tokens of its first
frame, then of its second, and so on: T * P in all, without pooling, separators or time.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.model_settings import ModelSettings
from weave_train.seeding import seeded_weights

__all__ = [
    "TOWERS",
    "TowerSpec",
    "VisionTower",
    "build_tower",
    "num_visual_tokens",
    "tower_sha256",
    "tower_spec",
]

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


class VisionTower(nn.Module):
    """A frozen timm ViT with its normalisation."""

    def __init__(self, vit: nn.Module, spec: TowerSpec) -> None:
        super().__init__()
        self.vit: Any = vit
        self.spec = spec

    def forward(self, pixels_F3HW: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
        """Encode frames.

        Args:
            pixels_F3HW: uint8[F, 3, image_px, image_px], RGB.

        Returns:
            [F, P, D] in the weights' dtype: output of the second-to-last block, without its norm.
        """
        # not buffers: casting the tower to bf16 must not round them
        mean, std = (pixels_F3HW.new_tensor(x, dtype=torch.float32) for x in (self.spec.mean, self.spec.std))
        images = (pixels_F3HW.float() / 255.0 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        features: torch.Tensor = self.vit.forward_intermediates(
            images.to(self.vit.pos_embed.dtype),
            indices=[len(self.vit.blocks) - 2],
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )[0]
        return features


def build_tower(settings: ModelSettings, *, with_weights: bool = True) -> VisionTower:
    """Build the frozen tower in fp32 on the CPU.

    Args:
        settings: `vision_backbone_id`, `vision_weights` and `seed` are used.
        with_weights: False when the caller fills the weights from a run: nothing is downloaded.

    Raises:
        ConfigError: Unknown vision id.
        DeviceError: The weight file is not there or has another layout, or the hub can't be reached.
    """
    spec = tower_spec(settings.vision_backbone_id)
    with seeded_weights(settings.seed):
        vit = _build_tiny(spec) if spec.timm_name == "tiny" else _build_timm(spec, settings, with_weights)
    return VisionTower(vit, spec).eval().requires_grad_(False)


def _build_tiny(spec: TowerSpec) -> nn.Module:
    install()
    from timm.models.vision_transformer import VisionTransformer

    vit: nn.Module = VisionTransformer(
        img_size=spec.image_px,
        patch_size=spec.patch_px,
        embed_dim=spec.dim,
        depth=3,
        num_heads=4,
        num_classes=0,
    )
    return vit


def _build_timm(spec: TowerSpec, settings: ModelSettings, with_weights: bool) -> nn.Module:
    install()
    import timm

    weights = settings.vision_weights if with_weights else "random"
    arguments: dict[str, Any] = {"pretrained": weights != "random"}
    if weights not in ("pretrained", "random"):
        if not Path(weights).is_file():
            raise DeviceError(
                f"model.vision_weights: there is no file {weights!r}; give a file in timm's layout"
            )
        arguments["pretrained_cfg_overlay"] = {"file": weights}
    try:
        # OpenAI trained CLIP with the quick GELU; timm's names without it would change the features
        vit: nn.Module = timm.create_model(spec.timm_name, num_classes=0, act_layer="quick_gelu", **arguments)
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"model.vision_weights: {weights!r} gives no weights for {spec.timm_name}: {_first_line(error)}; "
            "give a local file in timm's layout, or write out 'random'"
        ) from error
    return vit


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def tower_sha256(tower: nn.Module) -> str:
    """Hash of a tower's parameters and buffers: names, dtypes, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for name, value in tower.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
