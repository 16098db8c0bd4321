"""VideoWeave's and Prismatic's eighteen vision ids, and a tiny one.

Tags are written out where TIMM's default has moved since: SigLIP's names without a tag are SigLIP 2 today.

Source:
    Prismatic's `models/backbones/vision`. Differs: quick-GELU in the CLIP of `dinoclip`, too, which OpenAI
    trained with it; `dinov2-vit-l`, `in1k-vit-l` and `dinoclip-vit-l-336px`, which crash there, work.
"""

from __future__ import annotations

from dataclasses import replace

from weave_train.towers.spec import MemberSpec, TowerSpec

__all__ = ["TOWERS"]

_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _clip(timm_name: str, patch_px: int, dim: int, crop_pct: float = 1.0) -> MemberSpec:
    # OpenAI's weights need it; TIMM's names without it mean the plain one
    quick = {"act_layer": "quick_gelu"}
    return MemberSpec(timm_name, patch_px, dim, _CLIP_MEAN, _CLIP_STD, crop_pct, timm_kwargs=quick)


def _siglip(timm_name: str, patch_px: int, dim: int) -> MemberSpec:
    return MemberSpec(timm_name, patch_px, dim, _HALF, _HALF, 0.9)


def _single(image_px: int, member: MemberSpec) -> TowerSpec:
    return TowerSpec(image_px, (member,))


def _with_dino(image_px: int, name: str, other: MemberSpec) -> TowerSpec:
    return TowerSpec(image_px, (replace(_DINO, name="dino"), replace(other, name=name)))


_DINO = MemberSpec("vit_large_patch14_reg4_dinov2.lvd142m", 14, 1024, _IMAGENET_MEAN, _IMAGENET_STD)
_IN1K = MemberSpec("vit_large_patch16_224.augreg_in21k_ft_in1k", 16, 1024, _HALF, _HALF, 0.9)
_CLIP_L_336 = _clip("vit_large_patch14_clip_336.openai", 14, 1024)
_SIGLIP_SO_224 = _siglip("vit_so400m_patch14_siglip_224.webli", 14, 1152)
_SIGLIP_SO_384 = _siglip("vit_so400m_patch14_siglip_384.webli", 14, 1152)
_TINY = MemberSpec(
    "vit_tiny_patch16_224", 16, 128, _HALF, _HALF, timm_kwargs={"embed_dim": 128, "depth": 3, "num_heads": 4}
)

_IMAGES = {
    "clip-vit-b": _single(224, _clip("vit_base_patch16_clip_224.openai", 16, 768, 0.9)),
    "clip-vit-l": _single(224, _clip("vit_large_patch14_clip_224.openai", 14, 1024)),
    "clip-vit-l-336px": _single(336, _CLIP_L_336),
    "siglip-vit-b16-224px": _single(224, _siglip("vit_base_patch16_siglip_224.webli", 16, 768)),
    "siglip-vit-b16-256px": _single(256, _siglip("vit_base_patch16_siglip_256.webli", 16, 768)),
    "siglip-vit-b16-384px": _single(384, _siglip("vit_base_patch16_siglip_384.webli", 16, 768)),
    "siglip-vit-so400m": _single(224, _SIGLIP_SO_224),
    "siglip-vit-so400m-384px": _single(384, _SIGLIP_SO_384),
    "dinov2-vit-l": _single(224, _DINO),
    "in1k-vit-l": _single(224, _IN1K),
    "dinoclip-vit-l-336px": _with_dino(336, "clip", _CLIP_L_336),
    "dinosiglip-vit-so-224px": _with_dino(224, "siglip", _SIGLIP_SO_224),
    "dinosiglip-vit-so-384px": _with_dino(384, "siglip", _SIGLIP_SO_384),
}
_VIDEOS = (
    "clip-vit-b",
    "clip-vit-l",
    "clip-vit-l-336px",
    "siglip-vit-so400m-384px",
    "dinosiglip-vit-so-384px",
)

TOWERS: dict[str, TowerSpec] = {
    "video-tiny-vit": TowerSpec(32, (_TINY,), has_hub_weights=False),
    **_IMAGES,
    **{f"video-{name}": _IMAGES[name] for name in _VIDEOS},
}
"""Vision ids. `video-*` and image ids differ in nothing: T is free per sample."""
