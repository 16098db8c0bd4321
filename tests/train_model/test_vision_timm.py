"""`timm:NAME`: sizes and transform as timm states them, features as its own code computes them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.vision import build_tower
from weave_train.towers import tower_spec


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_small_patch14_dinov2.lvd142m", (518, 37 * 37, 384)),
        ("eva02_tiny_patch14_224", (224, 256, 192)),
        ("deit_tiny_distilled_patch16_224", (224, 196, 192)),
        ("beit_base_patch16_224", (224, 196, 768)),
    ],
)
def test_sizes_are_read_from_timm(name: str, sizes: tuple[int, int, int]) -> None:
    spec = tower_spec(f"timm:{name}")
    assert (spec.image_px, spec.patches_per_frame, spec.dim) == sizes
    assert tower_spec(f"timm:{name}+pool2").patches_per_frame == ((spec.grid + 1) // 2) ** 2


def test_a_registered_tower_by_its_timm_name_is_the_same() -> None:
    for vision_id in ("clip-vit-b", "siglip-vit-b16-224px", "in1k-vit-l"):
        spec = tower_spec(vision_id)
        assert tower_spec(f"timm:{spec.members[0].timm_name}") == spec


def test_only_openai_s_own_clip_has_the_quick_gelu() -> None:
    for name, expected in (
        ("vit_base_patch32_clip_224.openai", {"act_layer": "quick_gelu"}),
        ("vit_base_patch32_clip_224.laion2b", {}),
        ("vit_base_patch16_clip_224.openai_ft_in1k", {}),
    ):
        assert tower_spec(f"timm:{name}").members[0].timm_kwargs == expected


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_vit3.r160_in1k"])
def test_features_are_those_of_timm(name: str) -> None:
    settings = ModelSettings(vision_backbone_id=f"timm:{name}", vision_weights="random")
    tower = build_tower(settings)
    install()
    import timm
    from torchvision.transforms.functional import normalize

    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    cfg = timm.get_pretrained_cfg(name)
    images, last = normalize(pixels / 255, cfg.mean, cfg.std), len(tower.vit.blocks) - 2
    expected = tower.vit.get_intermediate_layers(images, n={last})[0]
    torch.testing.assert_close(tower(pixels), expected)
    pooled = build_tower(settings.model_copy(update={"vision_backbone_id": f"timm:{name}+pool2"}))
    squares = avg_pool2d(expected.mT.unflatten(2, (10, 10)), 2)
    torch.testing.assert_close(pooled(pixels), squares.flatten(2).mT)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "deit_tiny_distilled_patch16_224"])
def test_parameters_that_no_feature_needs_are_known_for_other_vits(name: str) -> None:
    settings = ModelSettings(vision_backbone_id=f"timm:{name}", vision_weights="random")
    tower = build_tower(settings).requires_grad_()
    tower(torch.zeros((1, 3, 224, 224), dtype=torch.uint8)).square().mean().backward()
    without = {key for key, value in tower.named_parameters() if value.grad is None}
    assert without == set(tower.unused_parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "timm:resnet18 is no ViT"),
        ("swin_tiny_patch4_window7_224", "is no ViT"),
        ("vit_small_r26_s32_224", "is no ViT"),
        ("mixer_s16_224", "is no ViT"),
        ("vit_base_patch16_clip_22", "TIMM has no model.*did you mean 'vit_base_patch16_clip_224'"),
        ("vit_base_patch16_clip_224.opnai", "did you mean 'vit_base_patch16_clip_224.openai'"),
        ("hf-hub:somebody/something", "TIMM has no model 'hf-hub:somebody/something'"),
        ("", "TIMM has no model ''"),
    ],
)
def test_what_timm_does_not_have_or_is_no_vit_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tower_spec(f"timm:{name}")
