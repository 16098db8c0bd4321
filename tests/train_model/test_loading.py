"""A run directory rebuilds its model exactly, and refuses what does not belong to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stored_pieces import cut_evenly, write_checkpoint
from tiny_rows import jpeg

from weave_data.errors import ConfigError, VerificationError
from weave_data.storage import LocalStore
from weave_train.checkpoint.frozen import frozen_sha256, save_frozen
from weave_train.checkpoint.layout import read_checkpoint, step_key
from weave_train.config import LoraConfig, ModelSettings, TrainableRule
from weave_train.engine.stages import apply_stage
from weave_train.loading import load, model_parts, save_model_files
from weave_train.models.lora import add_lora
from weave_train.models.model import VideoLanguageModel, build_model, tower_sha256
from weave_train.models.tokenizer import resolve_tokenizer

FRAMES = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
PROMPT = "In: What happens?\nOut:"


def write_step(
    run_dir: Path,
    weights: dict[str, torch.Tensor],
    frozen: dict[str, str],
    *,
    num_ranks: int = 1,
    step: int = 30,
    attempt: str = "attempt",
) -> Path:
    """What the training loop writes."""
    write_checkpoint(
        LocalStore(run_dir),
        cut_evenly(weights, num_ranks),
        step=step,
        shapes={name: value.shape for name, value in weights.items()},
        frozen=frozen,
        attempt=attempt,
    )
    return run_dir / step_key(step)


def write_run(vlm: VideoLanguageModel, run_dir: Path, *, num_ranks: int = 1) -> Path:
    save_model_files(vlm, run_dir)
    config = {"model": vlm.settings.model_dump(mode="json"), "versions": {}}
    (run_dir / "config.json").write_text(json.dumps(config))
    trained = {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}
    return write_step(run_dir, trained, save_all_frozen(vlm, run_dir), num_ranks=num_ranks)


def save_all_frozen(vlm: VideoLanguageModel, run_dir: Path) -> dict[str, str]:
    frozen = {}
    for part, module in model_parts(vlm).items():
        if not all(value.requires_grad for value in module.parameters()):
            frozen[part] = frozen_sha256(module)
            save_frozen(LocalStore(run_dir), part, module, sha256=frozen[part])
    return frozen


def replace_step(run_dir: Path, weights: dict[str, torch.Tensor], frozen: dict[str, str]) -> None:
    (run_dir / step_key(30) / "complete.json").unlink()
    write_step(run_dir, weights, frozen, attempt="again")


def nudge(vlm: VideoLanguageModel) -> None:
    """Stand-in for training: no weight is what its seed gives."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in vlm.core.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.2)


@pytest.fixture
def run_dir(vlm: VideoLanguageModel, tmp_path: Path) -> Path:
    nudge(vlm)
    write_run(vlm, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_a_loaded_model_is_the_stored_one(vlm: VideoLanguageModel, tmp_path: Path, num_ranks: int) -> None:
    nudge(vlm)
    checkpoint = write_run(vlm, tmp_path, num_ranks=num_ranks)
    torch.manual_seed(77)
    expected = torch.rand(2)
    torch.manual_seed(77)
    for loaded in (load(tmp_path, device="cpu"), load(str(checkpoint), device="cpu")):
        assert loaded.settings == vlm.settings
        assert tower_sha256(loaded.tower) == tower_sha256(vlm.tower)
        for (name, a), b in zip(vlm.core.named_parameters(), loaded.core.parameters(), strict=True):
            assert torch.equal(a, b), name
        assert not loaded.core.training
        assert not any(value.requires_grad for value in loaded.core.parameters())
        assert loaded.generate(FRAMES, PROMPT, max_new_tokens=16) == vlm.generate(
            FRAMES, PROMPT, max_new_tokens=16
        )
    assert torch.equal(torch.rand(2), expected)


def test_bf16_runs_keep_their_tower_and_compute_in_bf16(
    settings: ModelSettings, tokenizer: Any, tmp_path: Path
) -> None:
    vlm = build_model(settings.model_copy(update={"precision": "bf16"}), tokenizer)
    write_run(vlm, tmp_path)
    loaded = load(tmp_path, device="cpu")
    assert tower_sha256(loaded.tower) == tower_sha256(vlm.tower)
    assert {value.dtype for value in loaded.core.parameters()} == {torch.bfloat16}
    loaded.generate(FRAMES, PROMPT, max_new_tokens=4)


def test_the_package_offers_load_even_after_its_module_is_imported() -> None:
    import weave_train

    assert weave_train.load is load
    assert weave_train.load is load
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = weave_train.nothing


def frozen_file(run_dir: Path, part: str = "vision") -> Path:
    (path,) = run_dir.glob(f"frozen/{part}-*/weights-00000-000.safetensors")
    return path


def test_another_tower_is_refused(run_dir: Path) -> None:
    path = frozen_file(run_dir)
    weights = load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3
    save_file(weights, path)
    with pytest.raises(VerificationError, match="missing or not|its bytes changed"):
        load(run_dir)


def test_a_checkpoint_that_refers_to_another_tower_is_refused(vlm: VideoLanguageModel, run_dir: Path) -> None:
    replace_step(run_dir, dict(vlm.core.named_parameters()), {"vision": "0" * 64})
    with pytest.raises(VerificationError, match=r"frozen/vision-0000000000000000: the frozen weights"):
        load(run_dir)


def test_frozen_weights_under_another_name_are_refused(vlm: VideoLanguageModel, run_dir: Path) -> None:
    frozen_file(run_dir).parent.rename(run_dir / "frozen" / ("vision-" + "1" * 16))
    replace_step(run_dir, dict(vlm.core.named_parameters()), {"vision": "1" * 64})
    with pytest.raises(VerificationError, match="not what the run was trained with"):
        load(run_dir)


def test_a_frozen_language_model_is_kept_once_and_comes_back(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    nudge(vlm)
    vlm.core.language_model.requires_grad_(requires_grad=False)
    checkpoint = write_run(vlm, tmp_path)
    described = read_checkpoint(LocalStore(tmp_path), 30)
    assert set(described.frozen) == {"vision", "language"}
    assert {name.split(".")[0] for name in described.shapes} == {"projector"}
    loaded = load(checkpoint, device="cpu")
    for (name, a), b in zip(vlm.core.named_parameters(), loaded.core.parameters(), strict=True):
        assert torch.equal(a, b), name
    frozen_file(tmp_path, "language").unlink()
    with pytest.raises(VerificationError, match="weights-00000-000.safetensors: missing"):
        load(checkpoint)


def test_frozen_weights_are_written_some_at_a_time(
    vlm: VideoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weave_train.checkpoint.frozen._GROUP_BYTES", 100_000)
    write_run(vlm, tmp_path)
    assert len(list(tmp_path.glob("frozen/vision-*/weights-*.safetensors"))) > 5
    assert tower_sha256(load(tmp_path, device="cpu").tower) == tower_sha256(vlm.tower)


def test_a_trained_tower_comes_back_from_the_checkpoint(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    nudge(vlm)
    save_model_files(vlm, tmp_path)
    config = {"model": vlm.settings.model_dump(mode="json"), "versions": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tower = dict(vlm.tower.named_parameters())
    last = list(tower)[-1]
    vlm.tower.requires_grad_()
    tower[last].requires_grad_(requires_grad=False)
    with torch.no_grad():
        tower[last].add_(3.0)
    trained = dict(vlm.core.named_parameters())
    trained |= {f"vision.{name}": value + 1.0 for name, value in tower.items() if name != last}
    write_step(tmp_path, trained, save_all_frozen(vlm, tmp_path), num_ranks=2)
    found = dict(load(tmp_path, device="cpu").tower.named_parameters())
    assert all(torch.equal(found[name], value + (name != last)) for name, value in tower.items())


def change_seed(run_dir: Path) -> None:
    """Whatever is not read from the run's files is not what it was."""
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values["model"]["seed"] += 1
    path.write_text(json.dumps(values))


RULES = [
    TrainableRule(match="language_model.model.embed_tokens.*", freeze=True),
    TrainableRule(match="*.layers.0.*", freeze=True),
    TrainableRule(match="projector.0.*", freeze=True),
    TrainableRule(match="vision.vit.blocks.0.*", freeze=True),
]


@pytest.mark.parametrize("stage", ["finetune", "full-finetune"])
def test_frozen_weights_inside_trained_parts_come_back_whatever_the_seed(
    vlm: VideoLanguageModel, tmp_path: Path, stage: Any
) -> None:
    apply_stage(vlm, stage, RULES)
    nudge(vlm)
    write_run(vlm, tmp_path, num_ranks=2)
    described = read_checkpoint(LocalStore(tmp_path), 30)
    assert set(described.frozen) == {"vision", "language", "projector"}
    assert not any("embed_tokens" in name or ".layers.0." in name for name in described.shapes)
    change_seed(tmp_path)
    loaded = load(tmp_path, device="cpu")
    assert tower_sha256(loaded.tower) == tower_sha256(vlm.tower)
    ours = {part: module.state_dict() for part, module in model_parts(loaded).items()}
    for part, module in model_parts(vlm).items():
        assert all(torch.equal(ours[part][name], value) for name, value in module.state_dict().items())
    frozen_file(tmp_path, "projector").unlink()
    with pytest.raises(VerificationError, match=r"frozen/projector-.*: missing"):
        load(tmp_path)


def test_a_weight_that_is_neither_trained_nor_stored_is_refused(
    vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    apply_stage(vlm, "finetune", RULES[:1])
    write_run(vlm, tmp_path)
    trained = {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}
    del trained["language_model.model.norm.weight"]
    replace_step(tmp_path, trained, save_all_frozen(vlm, tmp_path))
    with pytest.raises(VerificationError, match=r"does not fit the model's language: model\.norm\.weight"):
        load(tmp_path)


@pytest.mark.parametrize("merges_lora", [True, False])
def test_adapters_come_back_merged_or_apart_and_answer_alike(
    settings: ModelSettings, tokenizer: Any, tmp_path: Path, merges_lora: bool
) -> None:
    lora = LoraConfig(rank=4, dropout=0.5)
    vlm = build_model(settings.model_copy(update={"lora": lora}), tokenizer)
    add_lora(vlm.core, lora, seed=settings.seed)
    apply_stage(vlm, "finetune")
    nudge(vlm)
    write_run(vlm, tmp_path)
    described = read_checkpoint(LocalStore(tmp_path), 30)
    assert {".lora_" in name for name in described.shapes if not name.startswith("projector.")} == {True}
    change_seed(tmp_path)
    loaded = load(tmp_path, device="cpu", merges_lora=merges_lora)
    names = {name for name, _ in loaded.core.named_parameters()}
    assert any(".lora_" in name for name in names) != merges_lora
    assert loaded.settings.lora == (None if merges_lora else lora)
    embeds = torch.randn(2, 9, 96, generator=torch.Generator().manual_seed(5))
    vlm.core.eval()
    ours, theirs = (one.core.language_model(inputs_embeds=embeds).logits.detach() for one in (loaded, vlm))
    assert float((ours - theirs).abs().max() / theirs.abs().max()) <= (1e-5 if merges_lora else 0)
    assert loaded.generate(FRAMES, PROMPT, max_new_tokens=8) == vlm.generate(FRAMES, PROMPT, max_new_tokens=8)


NAME = "projector.0.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"projector: 0\.weight is missing"),
        ("extra", r"projector: 9\.weight is not part of this model"),
        ("shape", r"projector: 0\.weight has shape \[5, 128\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    vlm: VideoLanguageModel, run_dir: Path, damage: str, message: str
) -> None:
    weights = dict(vlm.core.named_parameters())
    changed = {"extra": {"projector.9.weight": weights[NAME]}, "shape": {NAME: weights[NAME][:5]}}
    weights |= changed.get(damage, {})
    if damage == "missing":
        del weights[NAME]
    replace_step(run_dir, weights, {"vision": frozen_sha256(vlm.tower)})
    with pytest.raises(VerificationError, match=message):
        load(run_dir)


@pytest.mark.parametrize("file", ["frozen/vision-*", "checkpoints/step-000030/attempt"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_damaged_weights_are_refused(run_dir: Path, file: str, damage: str) -> None:
    (path,) = run_dir.glob(f"{file}/weights-00000-000.safetensors")
    data = path.read_bytes()
    changed = {"cut": data[:-100], "flipped": data[:-8] + bytes([data[-8] ^ 64]) + data[-7:], "gone": b""}
    path.write_bytes(changed[damage])
    if damage == "gone":
        path.unlink()
    with pytest.raises(VerificationError):
        load(run_dir)


def test_unfinished_checkpoints_and_other_folders_are_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        load(tmp_path)
    complete = run_dir / step_key(30) / "complete.json"
    complete.unlink()
    for path in (run_dir, complete.parent):
        with pytest.raises(ConfigError, match="no complete checkpoint"):
            load(path)


def test_a_run_without_its_configuration_is_refused(run_dir: Path) -> None:
    (run_dir / "config.json").unlink()
    with pytest.raises(ConfigError, match="is not a run directory"):
        load(run_dir)


def test_the_newest_complete_checkpoint_is_taken(vlm: VideoLanguageModel, run_dir: Path) -> None:
    newer = {name: value + 1 for name, value in vlm.core.named_parameters()}
    write_step(run_dir, newer, {"vision": frozen_sha256(vlm.tower)}, step=40)
    (run_dir / step_key(50)).mkdir()
    loaded = dict(load(run_dir, device="cpu").core.named_parameters())
    assert torch.equal(loaded[NAME], newer[NAME])


def test_unknown_settings_of_a_run_are_named(run_dir: Path) -> None:
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values["model"]["llm_max_lenght"] = 5
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="did you mean 'llm_max_length'"):
        load(run_dir)


def test_a_run_on_a_local_model_does_not_need_that_model_again(
    settings: ModelSettings, tmp_path: Path
) -> None:
    assets = os.environ.get("WEAVE_ASSETS")
    if not assets:
        pytest.skip("WEAVE_ASSETS is not set: no real language model here")
    base = tmp_path / "base"
    base.mkdir()
    for file in (Path(assets) / "models" / "stories260k_hf").iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    real = settings.model_copy(update={"llm_backbone_id": f"hf:{base}"})
    vlm = build_model(real, resolve_tokenizer(real, iter([])))
    write_run(vlm, tmp_path / "run")
    said = vlm.generate(FRAMES, PROMPT, max_new_tokens=12)
    for file in base.iterdir():
        file.unlink()
    base.rmdir()
    assert load(tmp_path / "run", device="cpu").generate(FRAMES, PROMPT, max_new_tokens=12) == said
