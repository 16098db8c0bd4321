"""Vision towers: uint8 frames in, one feature vector per patch out.

    pixels_F3HW (uint8) -> / 255, normalise -> timm ViT up to its second-to-last block -> [F, P, D]

Shapes: F frames, P patches per frame, D width. A row's visual tokens are the P tokens of its first
frame, then of its second, and so on: T * P in all, without pooling, separators or time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weave_data.errors import DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.seeding import seeded_weights
from weave_train.towers import TowerSpec, tower_spec

__all__ = [
    "VisionTower",
    "build_tower",
    "tower_sha256",
]


class VisionTower(nn.Module):
    """A timm ViT with its normalisation; frozen as built."""

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

    def unused_parameters(self) -> list[str]:
        """Names of parameters that the features don't depend on: of the last block and what follows it."""
        last = len(self.vit.blocks) - 1
        after = (f"blocks.{last}.", "norm.", "fc_norm.", "attn_pool.", "head.")
        return [f"vit.{name}" for name, _ in self.vit.named_parameters() if name.startswith(after)]

    def recompute_activations(self) -> None:
        """Keep only the blocks' inputs in a forward pass with gradients."""
        self.vit.set_grad_checkpointing(True)


def build_tower(settings: ModelSettings, *, with_weights: bool = True) -> VisionTower:
    """Build the tower, frozen, in fp32 on the CPU.

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
