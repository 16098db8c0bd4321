"""Stages train the parts they name, through `weave-train pretrain`, and leave the others alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import write_woven_dataset
from training_runs import Training

from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings, StageId
from weave_train.engine.stages import apply_stage, trained_parts
from weave_train.exports.run_layout import export_prismatic
from weave_train.loading import load
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.parts import PARTS, part_of
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.models.vision import VisionTower
from weave_train.numbers import read_metrics
from weave_train.towers import TOWERS

STAGES: tuple[StageId, ...] = ("align", "finetune", "full-finetune")
NUM_STEPS = 4


def make_model(**changes) -> VideoLanguageModel:
    tokenizer = train_caption_tokenizer(["A red square moves left."], vocab_size=300)
    settings = ModelSettings(precision="fp32", llm_max_length=64, **changes)
    return build_model(settings, tokenizer, trains_vision=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_exactly_its_parts(stage: StageId) -> None:
    vlm = make_model()
    apply_stage(vlm, stage)
    trained = {part_of(name) for name, value in vlm.core.named_parameters() if value.requires_grad}
    assert trained == trained_parts(stage)
    frozen = [name for name, value in vlm.core.named_parameters() if not value.requires_grad]
    # the whole language model in align; in full-finetune what the features don't depend on
    assert {part_of(name) for name in frozen} == {
        "align": {"language"},
        "finetune": set(),
        "full-finetune": {"vision"},
    }[stage]
    assert set(PARTS) >= trained


def tiny_clip() -> torch.nn.Module:
    """OpenAI's architecture, as the registered towers have it, with few and narrow blocks."""
    install()
    import timm

    return timm.create_model(
        "vit_base_patch16_clip_224.openai",
        pretrained=False,
        num_classes=0,
        act_layer="quick_gelu",
        depth=3,
        embed_dim=48,
        num_heads=4,
        img_size=32,
    )


@pytest.mark.parametrize("vit", [None, tiny_clip], ids=["tiny", "clip"])
def test_trained_tower_parameters_are_those_the_features_depend_on(vit) -> None:
    spec = TOWERS["video-tiny-vit"]
    tower = make_model().tower if vit is None else VisionTower([vit()], spec)
    tower.requires_grad_()
    tower(torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)).square().sum().backward()
    without = [name for name, value in tower.named_parameters() if value.grad is None]
    assert sorted(without) == sorted(tower.unused_parameters())
    assert without


def test_recompute_in_a_trained_tower_keeps_its_gradients() -> None:
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    gradients = []
    for recompute in (False, True):
        tower = make_model().tower.requires_grad_().train()
        if recompute:
            tower.recompute_activations()
        tower(pixels).square().sum().backward()
        gradients.append({name: p.grad for name, p in tower.named_parameters() if p.grad is not None})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("stages")
    manifest = write_woven_dataset(root / "woven", rows=40, clips_per_sample=2, frames_per_sample=4)
    return Training(manifest, root / "runs")


def train(runs: Training, stage: StageId, *extra: str, num_ranks: int) -> Path:
    arch = "gelu-mlp" if stage == "align" else "no-align+gelu-mlp"
    prefix = "align" if stage == "align" else "finetune"
    batch = [f"--model.{prefix}_global_batch_size", "9", f"--model.{prefix}_per_device_batch_size", "2"]
    flags = ["--stage", stage, "--model.arch_specifier", arch, *batch, "--max_steps", str(NUM_STEPS)]
    return runs.start("-".join([stage, *extra]).replace(".", "_"), *flags, *extra, num_ranks=num_ranks)


@pytest.mark.process
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("stage", "zero", "num_ranks"),
    [
        ("align", "3", 2),
        ("full-finetune", "3", 2),
        pytest.param("align", "0", 1, marks=pytest.mark.slow),
        pytest.param("align", "2", 3, marks=pytest.mark.slow),
        pytest.param("full-finetune", "1", 2, marks=pytest.mark.slow),
        pytest.param("full-finetune", "bf16", 2, marks=pytest.mark.slow),
        pytest.param("full-finetune", "2", 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_moves_the_parts_of_its_stage_only(runs: Training, stage, zero, num_ranks) -> None:
    precision = ["--model.enable_mixed_precision_training", "true"] if zero == "bf16" else []
    flags = [*precision, "--zero_stage", "2" if zero == "bf16" else zero, "--module_norms_every", "2"]
    run_dir = train(runs, stage, *flags, num_ranks=num_ranks)
    lines = read_metrics(run_dir)
    assert len(lines) == NUM_STEPS
    names = {f"{stage.capitalize()}/Gradient Norm ({part.capitalize()})" for part in trained_parts(stage)}
    for step, line in enumerate(lines):
        assert {name for name in line if "Norm (" in name} == (names if step % 2 == 0 else set())
    loaded = load(run_dir, device="cpu")
    assert moved_parts(loaded) == trained_parts(stage)
    path = run_dir / "latest-checkpoint.pt"
    export_prismatic(run_dir, path, dtype=torch.float32)
    exported = torch.load(path, weights_only=True)["model"]["vision_backbone"]
    for name, value in loaded.tower.vit.state_dict().items():
        assert torch.equal(exported[f"featurizer.{name}"].to(value), value), name


@pytest.mark.process
@pytest.mark.timeout(900)
def test_a_part_with_rate_0_stays_through_a_run(runs: Training) -> None:
    run_dir = train(runs, "finetune", "--lr_scale.language", "0", "--zero_stage", "2", num_ranks=1)
    assert moved_parts(load(run_dir, device="cpu")) == {"projector"}


def moved_parts(loaded: VideoLanguageModel) -> set[str]:
    """Parts that are not as built; of each either all that can be trained moved, or nothing."""
    first = build_model(loaded.settings, loaded.tokenizer)
    found = set()
    for part, ours, theirs in (
        ("projector", loaded.core.projector, first.core.projector),
        ("language", loaded.core.language_model, first.core.language_model),
        ("vision", loaded.tower, first.tower),
    ):
        before = {name: value.to(loaded.tower.vit.pos_embed) for name, value in theirs.named_parameters()}
        moved = {name for name, value in ours.named_parameters() if not torch.equal(value, before[name])}
        unused = set(loaded.tower.unused_parameters()) if part == "vision" else set()
        assert moved in (set(), set(before) - unused), part
        found |= {part} if moved else set()
    return found
