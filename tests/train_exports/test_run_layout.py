"""`--format prismatic`: what VideoWeave's load opens, and what came from there goes back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_exports import language_model, make_vlm, write_run

from weave_data.errors import ConfigError
from weave_train.checkpoint.layout import find_checkpoint_at
from weave_train.config import ModelSettings, load_pretrain_config
from weave_train.exports import plain
from weave_train.exports.export import export_run
from weave_train.exports.plain import plain_weights
from weave_train.loading import load, model_parts
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.vision import build_tower
from weave_train.train.warm_start import find_donor

SETTINGS = ModelSettings(precision="fp32", llm_max_length=256, vision_weights="random")


@pytest.fixture
def vlm(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> VideoLanguageModel:
    monkeypatch.setattr("weave_train.models.model.build_tower", build_tower)
    return build_model(SETTINGS, tokenizer)


def their_file(path: Path, vlm: VideoLanguageModel) -> dict[str, dict[str, torch.Tensor]]:
    """A checkpoint as VideoWeave saves one: their names, pure bf16."""
    language, tower = vlm.core.language_model.state_dict(), vlm.tower.vit.state_dict()
    shapes = {
        "projector": {f"projector.{name}": value for name, value in vlm.core.projector.state_dict().items()},
        "llm_backbone": {f"llm.{name}": value for name, value in language.items()},
        "vision_backbone": {f"featurizer.{name}": value for name, value in tower.items()},
    }
    generator = torch.Generator().manual_seed(3)
    model = {
        part: {
            name: torch.randn(value.shape, generator=generator).bfloat16() for name, value in values.items()
        }
        for part, values in shapes.items()
    }
    torch.save({"model": model}, path)
    return model


def test_a_checkpoint_goes_through_a_run_and_back_bit_for_bit(
    vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    theirs = their_file(tmp_path / "seed.pt", vlm)
    flags = {
        "dataset.manifest": "out/l4/manifest.json",
        "model.type": "tiny",
        "model.init_from_model": str(tmp_path / "seed.pt"),
    }
    donor = find_donor(load_pretrain_config(list(flags.items())), recipe="l4")
    assert donor is not None
    assert donor.give(vlm).left == ()
    run_dir = write_run(vlm, tmp_path / "run")
    export_run(run_dir, tmp_path / "back", kind="prismatic", dtype="bf16")
    back = torch.load(tmp_path / "back" / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"]
    assert back.keys() == theirs.keys()
    for part, values in theirs.items():
        assert back[part].keys() == values.keys()
        for name, value in values.items():
            assert back[part][name].dtype == value.dtype
            assert torch.equal(back[part][name], value), name


def test_a_tower_that_came_with_another_model_is_in_the_file(
    vlm: VideoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = write_run(vlm, tmp_path / "run")
    checkpoint = find_checkpoint_at(str(run_dir))
    vlm.settings = vlm.settings.model_copy(update={"vision_weights": "pretrained"})
    monkeypatch.setattr(plain, "tower_spec", lambda _: SimpleNamespace(has_hub_weights=True))
    assert plain_weights(checkpoint, vlm).keys() == {"projector", "language"}
    config = json.loads((run_dir / "config.json").read_text())
    config["pretrain"] = {"model": {"init_from_model": "runs/one-whose-tower-was-trained"}}
    (run_dir / "config.json").write_text(json.dumps(config))
    assert plain_weights(checkpoint, vlm).keys() == {"projector", "language", "vision"}


def test_a_directory_is_a_run_of_theirs(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    run_dir = write_run(vlm, tmp_path / "run")
    flags = {"dataset.manifest": "out/l4/manifest.json", "model.type": "tiny"}
    pretrain = load_pretrain_config(list(flags.items())).model_dump(mode="json")
    values = json.loads((run_dir / "config.json").read_text()) | {"pretrain": pretrain}
    (run_dir / "config.json").write_text(json.dumps(values))
    line, *notes = export_run(run_dir, tmp_path / "theirs", kind="prismatic")
    assert line == f"{tmp_path / 'theirs'}: projector, language, vision"
    assert notes == [
        "  VideoWeave knows no vision id 'video-tiny-vit'.",
        "  VideoWeave knows no language id 'tiny-llama'.",
    ]
    files = {str(path.relative_to(tmp_path / "theirs")) for path in (tmp_path / "theirs").rglob("*.*")}
    assert files == {"config.json", "checkpoints/latest-checkpoint.pt"}
    model = json.loads((tmp_path / "theirs" / "config.json").read_text())["model"]
    # what their load() reads of it
    assert model["model_id"] == "tiny"
    assert model["vision_backbone_id"] == "video-tiny-vit"
    assert model["llm_backbone_id"] == "tiny-llama"
    assert model["arch_specifier"] == "no-align+gelu-mlp"
    assert model["image_resize_strategy"] == "resize-naive"
    assert {"llm_max_length", "num_frames"} <= model.keys()


def test_a_pt_file_is_written_alone_and_replaced(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    run_dir = write_run(vlm, tmp_path / "run")
    for _ in range(2):
        export_run(run_dir, tmp_path / "x.pt", kind="prismatic")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.pt"]
    model = torch.load(tmp_path / "x.pt", weights_only=True)["model"]
    assert model["projector"]["projector.0.weight"].dtype == torch.float32
    with pytest.raises(ConfigError, match="name one in a directory that exists"):
        export_run(run_dir, tmp_path / "nowhere" / "x.pt", kind="prismatic")


def test_our_own_load_opens_the_directory(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weave_train.models.model.build_tower", build_tower)
    base = tmp_path / "base"
    tokenizer.save_pretrained(base)
    language = language_model("llama", vocab_size=320)
    language.config.save_pretrained(base)
    vlm = make_vlm(tokenizer, vision_id="video-tiny-vit", build=build_tower, language=language)
    vlm.settings = vlm.settings.model_copy(update={"llm_backbone_id": f"hf:{base}"})
    run_dir = write_run(vlm, tmp_path / "run")
    export_run(run_dir, tmp_path / "theirs", kind="prismatic")
    ours, theirs = load(run_dir, device="cpu"), load(tmp_path / "theirs", device="cpu")
    assert theirs.settings == ours.settings
    for part, module in model_parts(ours).items():
        found = model_parts(theirs)[part].state_dict()
        assert all(torch.equal(found[name], value) for name, value in module.state_dict().items())
