"""What a vision id stands for, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MemberSpec", "TowerSpec"]


@dataclass(frozen=True)
class MemberSpec:
    """One TIMM ViT of a tower, with TIMM's own normalisation and evaluation transform.

    Attributes:
        timm_name: `architecture` or `architecture.tag`; the tag names pretrained weights.
        patch_px: Side of a patch.
        dim: Width of its features.
        mean: Of RGB in [0, 1].
        std: Of RGB in [0, 1].
        crop_pct: Share of the resized image's side that the centre crop keeps.
        crop_mode: `center` keeps the aspect ratio when it resizes, `squash` does not.
        interpolation: PIL's name of the filter, in small letters.
        name: Where a tower has two members: `dino`, `siglip` or `clip`. Weights are kept below `vit.`, or
            `<name>_vit.`, which are Prismatic's `featurizer.` and `<name>_featurizer.`.
        timm_kwargs: Further arguments of `timm.create_model`.
    """

    timm_name: str
    patch_px: int
    dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    name: str = ""
    timm_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module_name(self) -> str:
        """Attribute of a `VisionTower` that holds this member."""
        return f"{self.name}_vit" if self.name else "vit"

    def resize_px(self, image_px: int) -> int:
        """Short side of an image before the centre crop to `image_px`.

        Source:
            Prismatic's `TimmViTBackbone`: SigLIP and IN1K resize to the model's size, where TIMM would
            resize to more and crop what is over.
        """
        if "siglip" in self.timm_name or "in1k" in self.timm_name:
            return image_px
        return math.floor(image_px / self.crop_pct)


@dataclass(frozen=True)
class TowerSpec:
    """One vision id.

    Attributes:
        image_px: Side of the square input of every member.
        members: In the order their features are concatenated; all have the same patch grid.
        pool: Side of the squares of patches whose features are averaged. Where it does not divide the
            grid, the last squares are cut off by its edge and average what is inside (27 x 27 -> 14 x 14).
        has_hub_weights: False where nobody publishes weights: `pretrained` means random.
    """

    image_px: int
    members: tuple[MemberSpec, ...]
    pool: int = 1
    has_hub_weights: bool = True

    @property
    def grid(self) -> int:
        """Patches along a side, before pooling; pixels beyond the last whole patch are not seen."""
        return self.image_px // self.members[0].patch_px

    @property
    def patches_per_frame(self) -> int:
        """P, prefix tokens not counted."""
        return math.ceil(self.grid / self.pool) ** 2

    @property
    def dim(self) -> int:
        """D, of all members together."""
        return sum(member.dim for member in self.members)

    @property
    def channels(self) -> int:
        """C of a frame's pixels: RGB for each member, transformed its own way."""
        return 3 * len(self.members)
