"""Vision towers: uint8 frames in, one feature vector per patch out.

    pixels_FCHW (uint8) -> for each member: / 255, normalise -> timm ViT up to its second-to-last block
                        -> concatenated along D -> with `+pool2` averaged over 2 x 2 patches -> [F, P, D]

Shapes: F frames, C channels (3 a member), P patches per frame, D width. A row's visual tokens are the P
tokens of its first frame, then of its second, and so on: T * P in all, without separators or time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch import nn

from weave_train.config import ModelSettings
from weave_train.models.seeding import seeded_weights
from weave_train.models.vision_weights import build_member, split_weights
from weave_train.towers import MemberSpec, TowerSpec, tower_spec

__all__ = [
    "VisionTower",
    "build_tower",
    "tower_sha256",
]

_UNUSED = ("norm.", "fc_norm.", "attn_pool.", "head.", "blocks_token_only.")
"""What comes after a ViT's blocks; the last block is unused, too."""


class VisionTower(nn.Module):
    """One or two timm ViTs with their normalisation; frozen as built.

    Args:
        vits: A ViT for each member of `spec`; kept as `vit`, or as `dino_vit` and the like in a fused tower.
        spec: Of the vision id.
    """

    vit: Any

    def __init__(self, vits: Sequence[nn.Module], spec: TowerSpec) -> None:
        super().__init__()
        self.spec = spec
        for member, vit in zip(spec.members, vits, strict=True):
            self.add_module(member.module_name, vit)

    @property
    def vits(self) -> list[Any]:
        """The timm ViTs, in the order of `spec.members`."""
        return [getattr(self, member.module_name) for member in self.spec.members]

    def forward(self, pixels_FCHW: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
        """Encode frames.

        Args:
            pixels_FCHW: uint8[F, C, image_px, image_px]; RGB for each member.

        Returns:
            [F, P, D] in the weights' dtype: outputs of the second-to-last blocks, without their norms and
            without prefix tokens.
        """
        features = torch.cat(
            [
                _encode(vit, _normalised(images, member))
                for vit, images, member in zip(
                    self.vits, pixels_FCHW.split(3, dim=1), self.spec.members, strict=True
                )
            ],
            dim=-1,
        )
        return features if self.spec.pool == 1 else _pooled(features, self.spec.grid, self.spec.pool)

    def unused_parameters(self) -> list[str]:
        """Names of parameters that the features don't depend on: of last blocks and what follows them."""
        unused = []
        for member, vit in zip(self.spec.members, self.vits, strict=True):
            after = (f"blocks.{len(vit.blocks) - 1}.", *_UNUSED)
            names = [name for name, _ in vit.named_parameters() if name.startswith(after)]
            unused += [f"{member.module_name}.{name}" for name in names]
        return unused

    def recompute_activations(self) -> None:
        """Keep only the blocks' inputs in a forward pass with gradients."""
        for vit in self.vits:
            vit.set_grad_checkpointing(True)


def _normalised(images_F3HW: torch.Tensor, member: MemberSpec) -> torch.Tensor:  # noqa: N803
    # not buffers: casting the tower to bf16 must not round them
    mean, std = (images_F3HW.new_tensor(x, dtype=torch.float32) for x in (member.mean, member.std))
    return (images_F3HW.float() / 255.0 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _encode(vit: Any, images_F3HW: torch.Tensor) -> torch.Tensor:  # noqa: N803
    features: torch.Tensor = vit.forward_intermediates(
        images_F3HW.to(next(vit.parameters()).dtype),
        indices=[len(vit.blocks) - 2],
        norm=False,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )[0]
    return features


def _pooled(features_FPD: torch.Tensor, grid: int, pool: int) -> torch.Tensor:  # noqa: N803
    squares = features_FPD.transpose(1, 2).unflatten(2, (grid, grid))
    means = F.avg_pool2d(
        squares, pool, ceil_mode=True
    )  # a square cut off by the edge: the mean of its inside
    return means.flatten(2).transpose(1, 2)


def build_tower(settings: ModelSettings, *, with_weights: bool = True) -> VisionTower:
    """Build the tower, frozen, in fp32 on the CPU.

    Args:
        settings: `vision_backbone_id`, `vision_weights` and `seed` are used.
        with_weights: False when the caller fills the weights from a run: nothing is downloaded.

    Raises:
        ConfigError: Unknown vision id, or `vision_weights` names more or fewer files than it has members.
        DeviceError: A weight file is not there, damaged or has another layout, or the hub can't be reached.
    """
    spec = tower_spec(settings.vision_backbone_id)
    wanted = settings.vision_weights if with_weights else "random"
    if wanted == "pretrained" and not spec.has_hub_weights:
        wanted = "random"
    weights = split_weights(wanted, settings.vision_backbone_id, spec)
    with seeded_weights(settings.seed):
        vits = [build_member(member, spec, one) for member, one in zip(spec.members, weights, strict=True)]
    return VisionTower(vits, spec).eval().requires_grad_(False)


def tower_sha256(tower: nn.Module) -> str:
    """Hash of a tower's parameters and buffers: names, dtypes, shapes and bytes, in order."""
    digest = hashlib.sha256()
    for name, value in tower.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
