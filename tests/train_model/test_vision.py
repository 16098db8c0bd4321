"""Towers: the eighteen ids as Prismatic has them, and features as timm's own code computes them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_towers import SMALL_DIM, small_tower

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.vision import VisionTower, build_tower
from weave_train.models.vision_weights import build_member
from weave_train.towers import TOWERS, MemberSpec, TowerSpec, num_visual_tokens, tower_spec

IDS = {  # px, patches of a frame, dim, and the TIMM models whose features are concatenated
    "clip-vit-b": (224, 196, 768, "vit_base_patch16_clip_224.openai"),
    "clip-vit-l": (224, 256, 1024, "vit_large_patch14_clip_224.openai"),
    "clip-vit-l-336px": (336, 576, 1024, "vit_large_patch14_clip_336.openai"),
    "siglip-vit-b16-224px": (224, 196, 768, "vit_base_patch16_siglip_224"),
    "siglip-vit-b16-256px": (256, 256, 768, "vit_base_patch16_siglip_256"),
    "siglip-vit-b16-384px": (384, 576, 768, "vit_base_patch16_siglip_384"),
    "siglip-vit-so400m": (224, 256, 1152, "vit_so400m_patch14_siglip_224"),
    "siglip-vit-so400m-384px": (384, 729, 1152, "vit_so400m_patch14_siglip_384"),
    "dinov2-vit-l": (224, 256, 1024, "vit_large_patch14_reg4_dinov2.lvd142m"),
    "in1k-vit-l": (224, 196, 1024, "vit_large_patch16_224.augreg_in21k_ft_in1k"),
    "dinoclip-vit-l-336px": (
        336,
        576,
        2048,
        "vit_large_patch14_reg4_dinov2.lvd142m vit_large_patch14_clip_336.openai",
    ),
    "dinosiglip-vit-so-224px": (
        224,
        256,
        2176,
        "vit_large_patch14_reg4_dinov2.lvd142m vit_so400m_patch14_siglip_224",
    ),
    "dinosiglip-vit-so-384px": (
        384,
        729,
        2176,
        "vit_large_patch14_reg4_dinov2.lvd142m vit_so400m_patch14_siglip_384",
    ),
}
VIDEO_IDS = (
    "clip-vit-b",
    "clip-vit-l",
    "clip-vit-l-336px",
    "siglip-vit-so400m-384px",
    "dinosiglip-vit-so-384px",
)
FAMILIES = ("clip-vit-l", "siglip-vit-so400m-384px", "dinov2-vit-l", "in1k-vit-l")
FUSED = ("dinosiglip-vit-so-384px", "dinoclip-vit-l-336px")
PREFIX_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 5, "in1k": 1}


def settings(vision_id: str, **changes: Any) -> ModelSettings:
    return ModelSettings(vision_backbone_id=vision_id, **changes)


def random_pixels(spec: TowerSpec, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    shape = (num_frames, spec.channels, spec.image_px, spec.image_px)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def deep_tower(vision_id: str) -> VisionTower:
    """A small tower of four blocks, so that the second-to-last is neither the first nor the last."""
    spec = small_tower(TOWERS[vision_id])
    members = tuple(replace(m, timm_kwargs={**m.timm_kwargs, "depth": 4}) for m in spec.members)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vits = [build_member(member, spec, "random") for member in members]
        for vit in vits:
            for value in vit.parameters():  # zeros and ones as built would hide a missing bias or scale
                torch.nn.init.normal_(value, std=0.3)
    return VisionTower(vits, replace(spec, members=members)).eval().requires_grad_(False)


def test_the_ids_are_those_of_the_original_with_its_models_and_sizes() -> None:
    expected = {**IDS, **{f"video-{name}": IDS[name] for name in VIDEO_IDS}}
    assert len(expected) == 18
    assert set(TOWERS) == {"video-tiny-vit", *expected}
    for name, (image_px, patches, dim, models) in expected.items():
        spec = tower_spec(name)
        found = " ".join(member.timm_name.removesuffix(".webli") for member in spec.members)
        assert (spec.image_px, spec.patches_per_frame, spec.dim, found) == (image_px, patches, dim, models)
        assert num_visual_tokens(16, settings(name)) == 16 * patches


MEMBERS = {m.timm_name: (m, spec) for spec in TOWERS.values() for m in spec.members if spec.has_hub_weights}
MEMBERS["dinov2 at 384 px"] = (
    TOWERS["dinosiglip-vit-so-384px"].members[0],
    TOWERS["dinosiglip-vit-so-384px"],
)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_table_says_what_timm_says(name: str) -> None:
    install()
    import timm

    member, spec = MEMBERS[name]
    with torch.device("meta"):
        vit: Any = build_member(member, spec, "random")
    cfg = vit.pretrained_cfg
    assert cfg["tag"] == member.timm_name.partition(".")[2]
    assert (cfg["mean"], cfg["std"]) == (member.mean, member.std)
    assert (cfg["crop_pct"], cfg["interpolation"]) == (member.crop_pct, member.interpolation)
    assert timm.data.resolve_model_data_config(vit)["crop_mode"] == member.crop_mode
    assert (vit.embed_dim, vit.patch_embed.patch_size) == (member.dim, (member.patch_px, member.patch_px))
    assert vit.patch_embed.grid_size == (spec.grid, spec.grid)
    assert vit.patch_embed.img_size == (spec.image_px, spec.image_px)
    family = next(family for family in PREFIX_TOKENS if f"_{family}" in member.timm_name)
    assert vit.num_prefix_tokens == PREFIX_TOKENS[family]
    is_openai = member.timm_name.endswith(".openai")
    assert {type(block.mlp.act).__name__ for block in vit.blocks} == {"QuickGELU" if is_openai else "GELU"}


@pytest.mark.parametrize("vision_id", FAMILIES)
def test_features_are_those_of_timm_without_norm_and_prefix_tokens(vision_id: str) -> None:
    install()
    import timm

    tower = deep_tower(vision_id)
    (member,), pixels = tower.spec.members, random_pixels(tower.spec, 3)
    name = member.timm_name.replace("_clip_", "_clip_quickgelu_")  # timm's own name for OpenAI's CLIP
    arguments = {**member.timm_kwargs, "img_size": tower.spec.image_px}
    arguments.pop("act_layer", None)
    theirs = timm.create_model(name, pretrained=False, num_classes=0, **arguments).eval()
    theirs.load_state_dict(tower.vit.state_dict())
    cfg = timm.get_pretrained_cfg(member.timm_name)
    from torchvision.transforms.functional import normalize

    images = normalize(pixels / 255, cfg.mean, cfg.std)
    expected = theirs.get_intermediate_layers(images, n={len(theirs.blocks) - 2})[0]
    assert expected.shape == (3, tower.spec.patches_per_frame, SMALL_DIM)
    torch.testing.assert_close(tower(pixels), expected)


@pytest.mark.parametrize("vision_id", FUSED)
def test_a_fused_tower_is_its_members_side_by_side_dino_first(vision_id: str) -> None:
    tower = deep_tower(vision_id)
    pixels = random_pixels(tower.spec, 2)
    alone = [
        VisionTower([vit], replace(tower.spec, members=(replace(member, name=""),)))
        for vit, member in zip(tower.vits, tower.spec.members, strict=True)
    ]
    assert "dinov2" in tower.spec.members[0].timm_name
    expected = torch.cat([alone[0](pixels[:, :3]), alone[1](pixels[:, 3:])], dim=-1)
    assert torch.equal(tower(pixels), expected)
    assert expected.shape[-1] == tower.spec.dim == 2 * SMALL_DIM


def test_pooling_averages_squares_of_patches_and_what_is_left_at_an_odd_edge() -> None:
    for vision_id, grid in (("clip-vit-l", 2), ("siglip-vit-so400m-384px", 3)):
        tower = deep_tower(vision_id)
        pooled = VisionTower(tower.vits, replace(tower.spec, pool=2))
        pixels = random_pixels(tower.spec, 2)
        squares = tower(pixels).unflatten(1, (grid, grid))
        ranges = [range(start, min(start + 2, grid)) for start in range(0, grid, 2)]
        expected = [
            squares[:, list(rows)][:, :, list(cols)].mean((1, 2)) for rows in ranges for cols in ranges
        ]
        torch.testing.assert_close(pooled(pixels), torch.stack(expected, dim=1))
        assert pooled.spec.patches_per_frame == math.ceil(grid / 2) ** 2 == len(expected)
    assert tower_spec("clip-vit-l-336px+pool2").patches_per_frame == 144
    assert tower_spec("video-dinosiglip-vit-so-384px+pool2").patches_per_frame == 196
    assert tower_spec("clip-vit-l+pool2").dim == 1024


@pytest.mark.usefixtures("small_towers")
@pytest.mark.parametrize("vision_id", [name for name in TOWERS if name != "video-tiny-vit"])
def test_every_id_encodes_any_number_of_frames(vision_id: str) -> None:
    tower = build_tower(settings(vision_id))
    pixels = random_pixels(tower.spec, 5)
    together = tower(pixels)
    assert together.shape == (5, tower.spec.patches_per_frame, tower.spec.dim)
    torch.testing.assert_close(together[3:4], tower(pixels[3:4]))
    assert not any(value.requires_grad for value in tower.parameters())


@pytest.mark.parametrize("vision_id", [*FAMILIES, *FUSED, "dinosiglip-vit-so-384px+pool2"])
def test_what_is_trained_and_computed_again_is_what_features_depend_on(vision_id: str) -> None:
    base = vision_id.removesuffix("+pool2")
    gradients = []
    for recompute in (False, True):
        tower = deep_tower(base).requires_grad_().train()
        if base != vision_id:
            tower.spec = replace(tower.spec, pool=2)
        if recompute:
            tower.recompute_activations()
        tower(random_pixels(tower.spec, 2)).square().mean().backward()
        gradients.append({name: p.grad for name, p in tower.named_parameters() if p.grad is not None})
    unused = set(tower.unused_parameters())
    assert unused == {name for name, _ in tower.named_parameters()} - gradients[0].keys()
    assert {name.partition(".")[0] for name in unused} == {m.module_name for m in tower.spec.members}
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


def test_siglip_and_in1k_are_resized_to_the_model_s_size_and_the_others_as_timm_says() -> None:
    def resized(name: str) -> list[int]:
        spec = tower_spec(name)
        return [member.resize_px(spec.image_px) for member in spec.members]

    assert resized("clip-vit-b") == [248]
    assert resized("siglip-vit-b16-224px") == resized("in1k-vit-l") == [224]
    assert resized("dinoclip-vit-l-336px") == [336, 336]
    assert isinstance(tower_spec("clip-vit-b").members[0], MemberSpec)


@pytest.mark.parametrize(
    ("vision_id", "hint"),
    [
        ("siglip-vit-so400", "did you mean 'siglip-vit-so400m'"),
        ("dinosiglip-vit-so-384", "did you mean 'dinosiglip-vit-so-384px'"),
        ("clip-vit-l+pool3", "did you mean 'clip-vit-l'"),
        ("in1k-vitl+pool2", "did you mean 'in1k-vit-l'"),
    ],
)
def test_an_unknown_id_names_the_nearest(vision_id: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="model.vision_backbone_id: unknown id") as raised:
        tower_spec(vision_id)
    assert hint in str(raised.value)
