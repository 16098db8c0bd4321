"""VideoWeave's checkpoint file is written with its key names, and read back without running code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stored_pieces import cut_evenly, write_checkpoint
from torch import nn

from weave_data.errors import VerificationError
from weave_data.storage import LocalStore
from weave_train.checkpoint.frozen import frozen_sha256, save_frozen
from weave_train.checkpoint.prismatic import read_prismatic, write_prismatic
from weave_train.config import LoraConfig, ModelSettings
from weave_train.engine.stages import apply_stage
from weave_train.exports.run_layout import export_prismatic
from weave_train.loading import load, model_parts, save_model_files
from weave_train.models.lora import add_lora
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.projector import build_projector
from weave_train.models.vision import build_tower
from weave_train.towers import TOWERS


class Theirs(nn.Module):
    """The shape of Prismatic's classes, as far as names go."""

    def __init__(self, projector: nn.Module) -> None:
        super().__init__()
        self.projector = projector


@pytest.fixture
def run_dir(vlm: VideoLanguageModel, tmp_path: Path) -> Path:
    return write_run(vlm, tmp_path)


def write_run(vlm: VideoLanguageModel, run_dir: Path) -> Path:
    save_model_files(vlm, run_dir)
    (run_dir / "config.json").write_text(json.dumps({"model": vlm.settings.model_dump(mode="json")}))
    frozen = {}
    for part, module in model_parts(vlm).items():
        if not all(value.requires_grad for value in module.parameters()):
            frozen[part] = frozen_sha256(module)
            save_frozen(LocalStore(run_dir), part, module, sha256=frozen[part])
    weights = {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}
    shapes = {name: value.shape for name, value in weights.items()}
    write_checkpoint(LocalStore(run_dir), cut_evenly(weights, 2), step=3, shapes=shapes, frozen=frozen)
    return run_dir


def test_an_exported_run_has_their_names_and_our_values(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "latest-checkpoint.pt"
    assert export_prismatic(run_dir, path)[0] == ("projector", "language", "vision")  # a random tower
    model = torch.load(path, weights_only=True)["model"]
    assert set(model) == {"projector", "llm_backbone", "vision_backbone"}
    assert set(model["projector"]) == {f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert {"llm.model.embed_tokens.weight", "llm.lm_head.weight", "llm.model.norm.weight"} <= set(
        model["llm_backbone"]
    )
    assert {"featurizer.pos_embed", "featurizer.blocks.0.attn.qkv.weight"} <= set(model["vision_backbone"])
    assert {value.dtype for part in model.values() for value in part.values()} == {torch.float32}
    loaded = load(run_dir, device="cpu")
    for part, module in model_parts(loaded).items():
        stored = read_prismatic(path)[part]
        assert stored.keys() == module.state_dict().keys()
        assert all(torch.equal(stored[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("kind", ["linear", "gelu-mlp", "fused-gelu-mlp"])
def test_every_projector_goes_there_and_back(tmp_path: Path, kind: str) -> None:
    ours = build_projector(kind, vision_dim=4, text_dim=6)
    write_prismatic(tmp_path / "a.pt", {"projector": ours.state_dict()})
    theirs = Theirs(nn.Linear(4, 6) if kind == "linear" else build_projector(kind, vision_dim=4, text_dim=6))
    theirs.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True)["model"]["projector"])
    back = read_prismatic(tmp_path / "a.pt")["projector"]
    assert back.keys() == ours.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in ours.state_dict().items())


@pytest.mark.usefixtures("small_towers")
@pytest.mark.parametrize("other", ["siglip", "clip"])
def test_fused_towers_go_there_and_back_under_their_names(tmp_path: Path, other: str) -> None:
    vision_id = {"siglip": "dinosiglip-vit-so-384px", "clip": "dinoclip-vit-l-336px"}[other]
    tower = build_tower(ModelSettings(vision_backbone_id=vision_id)).state_dict()
    write_prismatic(tmp_path / "a.pt", {"projector": {"0.weight": torch.ones(1)}, "vision": tower})
    theirs = torch.load(tmp_path / "a.pt", weights_only=True)["model"]["vision_backbone"]
    assert {name.partition(".")[0] for name in theirs} == {"dino_featurizer", f"{other}_featurizer"}
    assert torch.equal(theirs["dino_featurizer.reg_token"], tower["dino_vit.reg_token"])
    back = read_prismatic(tmp_path / "a.pt")["vision"]
    assert back.keys() == tower.keys()
    assert all(torch.equal(back[name], value) for name, value in tower.items())


def test_a_published_tower_that_was_not_trained_stays_out(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weave_train.exports.plain.tower_spec", lambda _: TOWERS["clip-vit-b"])
    assert export_prismatic(run_dir, tmp_path / "a.pt")[0] == ("projector", "language")


def test_a_trained_tower_goes_along_whatever_it_began_as(
    vlm: VideoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_stage(vlm, "full-finetune")
    with torch.no_grad():
        for value in vlm.core.parameters():
            value.add_(0.1)
    write_run(vlm, tmp_path)
    monkeypatch.setattr("weave_train.exports.plain.tower_spec", lambda _: TOWERS["clip-vit-b"])
    assert export_prismatic(tmp_path, tmp_path / "a.pt")[0] == ("projector", "language", "vision")
    stored = read_prismatic(tmp_path / "a.pt")["vision"]
    assert all(torch.equal(stored[name], value) for name, value in vlm.tower.state_dict().items())


def test_adapters_are_exported_in_the_weights_beside_them(
    settings: ModelSettings, tokenizer: Any, tmp_path: Path
) -> None:
    lora = LoraConfig(rank=4)
    vlm = build_model(settings.model_copy(update={"lora": lora}), tokenizer)
    add_lora(vlm.core, lora, seed=1)
    apply_stage(vlm, "finetune")
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in vlm.core.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.1)
    write_run(vlm, tmp_path)
    export_prismatic(tmp_path, tmp_path / "a.pt")
    plain = build_model(settings, tokenizer)
    stored = read_prismatic(tmp_path / "a.pt")
    for part in ("projector", "language"):
        model_parts(plain)[part].load_state_dict(stored[part])
    embeds = torch.randn(2, 9, 96, generator=generator)
    logits = [one.core.eval().language_model(inputs_embeds=embeds).logits for one in (plain, vlm)]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    "content",
    [
        {"weights": {}},
        {"model": {"llm_backbone": {}}},
        {"model": {"projector": {"other.weight": torch.zeros(1)}}},
        {"model": {"projector": Payload()}},
        [],
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(VerificationError, match=r"a\.pt: "):
        read_prismatic(tmp_path / "a.pt")
    assert "run" not in capsys.readouterr().out
    (tmp_path / "b.pt").write_bytes(b"no archive")
    for name in ("b.pt", "c.pt"):
        with pytest.raises(VerificationError, match="no checkpoint of Prismatic"):
            read_prismatic(tmp_path / name)
