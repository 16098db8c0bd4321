"""Weights of towers: whole files in timm's layout and nothing else, without running what is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_towers import SMALL_DIM, small_tower

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.vision import VisionTower, build_tower, tower_sha256
from weave_train.towers import TOWERS

CLIP, DINO, FUSED = "clip-vit-l", "dinov2-vit-l", "dinoclip-vit-l-336px"


@pytest.fixture(autouse=True)
def small_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones whose settings are obeyed: files are read, the hub is asked."""
    for name, spec in list(TOWERS.items()):
        monkeypatch.setitem(TOWERS, name, small_tower(spec, has_hub_weights=True))


def build(vision_id: str, weights: str | Path, seed: int = 7) -> VisionTower:
    return build_tower(ModelSettings(vision_backbone_id=vision_id, vision_weights=str(weights), seed=seed))


def state_of(vision_id: str, member: str = "vit") -> dict[str, torch.Tensor]:
    """Of a tower that no build with the usual seed gives."""
    return dict(getattr(build(vision_id, "random", seed=99), member).state_dict())


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_file_in_timm_s_layout_is_the_tower(tmp_path: Path, kind: str) -> None:
    state = {**state_of(CLIP), "head.weight": torch.ones(8, SMALL_DIM), "head.bias": torch.ones(8)}
    path = tmp_path / f"clip.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    tower = build(CLIP, path)
    assert tower_sha256(tower) == tower_sha256(build(CLIP, "random", seed=99))
    assert tower_sha256(tower) != tower_sha256(build(CLIP, "random"))
    assert type(tower.vit.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert "state_dict" not in tower.vit.pretrained_cfg


def test_a_tower_nobody_publishes_is_random_unless_a_file_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = "video-tiny-vit"
    monkeypatch.setitem(TOWERS, tiny, replace(TOWERS[tiny], has_hub_weights=False))
    assert tower_sha256(build(tiny, "pretrained")) == tower_sha256(build(tiny, "random"))
    save_file(state_of(tiny), tmp_path / "tiny.safetensors")
    assert tower_sha256(build(tiny, tmp_path / "tiny.safetensors")) == tower_sha256(build(tiny, "random", 99))


def test_a_fused_tower_takes_a_file_for_each_member_dino_first(tmp_path: Path) -> None:
    for member in ("dino", "clip"):
        save_file(state_of(FUSED, f"{member}_vit"), tmp_path / f"{member}.safetensors")
    both = f"{tmp_path}/dino.safetensors, {tmp_path}/clip.safetensors"
    assert tower_sha256(build(FUSED, both)) == tower_sha256(build(FUSED, "random", seed=99))
    with pytest.raises(
        ConfigError, match=r"1 files, dinoclip-vit-l-336px is made of dino \(.*, clip \(.*in this"
    ):
        build(FUSED, tmp_path / "dino.safetensors")
    turned = f"{tmp_path}/clip.safetensors,{tmp_path}/dino.safetensors"
    with pytest.raises(DeviceError, match="no weights for vit_large_patch14_reg4_dinov2"):
        build(FUSED, turned)


def test_dino_s_positions_are_resampled_from_its_own_size_as_timm_does(tmp_path: Path) -> None:
    install()
    import timm

    state = state_of(DINO)
    generator = torch.Generator().manual_seed(1)
    state["pos_embed"] = torch.randn((1, 37 * 37, SMALL_DIM), generator=generator)  # of 518 px
    save_file(state, tmp_path / "dino.safetensors")
    (member,) = TOWERS[DINO].members
    theirs = timm.create_model(
        member.timm_name,
        pretrained=True,
        num_classes=0,
        img_size=28,
        pretrained_cfg_overlay={"file": str(tmp_path / "dino.safetensors")},
        **member.timm_kwargs,
    )
    ours = build(DINO, tmp_path / "dino.safetensors").vit
    assert ours.pos_embed.shape == (1, 4, SMALL_DIM)
    assert torch.equal(ours.pos_embed, theirs.pos_embed)


def test_sizes_that_timm_would_bend_to_fit_are_refused(tmp_path: Path) -> None:
    state = state_of(CLIP)
    save_file({**state, "pos_embed": torch.zeros(1, 26, SMALL_DIM)}, tmp_path / "positions.safetensors")
    with pytest.raises(
        DeviceError, match=r"position embeddings are of 5 x 5 patches, not of 2 x 2 or 16 x 16"
    ):
        build(CLIP, tmp_path / "positions.safetensors")
    kernel = torch.zeros(SMALL_DIM, 3, 16, 16)
    save_file({**state, "patch_embed.proj.weight": kernel}, tmp_path / "patches.safetensors")
    with pytest.raises(DeviceError, match="its patches are 16 px wide, the model's 14 px"):
        build(CLIP, tmp_path / "patches.safetensors")


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def _without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda state: _without(state, "blocks.0.attn.qkv.weight"),
            r"Missing key.*blocks\.0\.attn\.qkv\.weight",
        ),
        (lambda state: state | {"blocks.7.norm1.bias": torch.zeros(1)}, "Unexpected key"),
        (lambda state: state | {"norm.weight": torch.zeros(5)}, "size mismatch for norm.weight"),
        (lambda state: state | {"norm.weight": Payload()}, "blocked loading|Unsupported"),
        (lambda _: {"a": "text"}, "holds no weights"),
        (lambda _: {}, "holds no weights"),
        (lambda _: [1, 2], "holds no weights"),
    ],
)
def test_a_file_that_is_not_this_tower_is_refused_and_runs_nothing(
    tmp_path: Path, change: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(change(state_of(CLIP)), tmp_path / "wrong.pt")
    with pytest.raises(DeviceError, match=reason) as raised:
        build(CLIP, tmp_path / "wrong.pt")
    assert "gives no weights for vit_large_patch14_clip_224.openai" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize("num_bytes", [0, 100, 20_000])
def test_a_damaged_file_is_refused(tmp_path: Path, kind: str, num_bytes: int) -> None:
    path = tmp_path / f"cut.{kind}"
    save_file(state_of(CLIP), path) if kind == "safetensors" else torch.save(state_of(CLIP), path)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(DeviceError, match="gives no weights for"):
        build(CLIP, path)
    path.write_bytes(b"these are words, not weights " * 40)
    with pytest.raises(DeviceError, match="gives no weights for"):
        build(CLIP, path)


def test_a_hub_that_is_not_reached_is_one_error_that_says_what_to_do() -> None:
    with pytest.raises(
        DeviceError, match="'pretrained' gives no weights for vit_large_patch14_clip_224"
    ) as raised:
        build(CLIP, "pretrained")
    assert "local file in timm's layout, or write out 'random'" in str(raised.value)
    with pytest.raises(DeviceError, match="there is no file '/nowhere.safetensors'"):
        build(CLIP, "/nowhere.safetensors")
