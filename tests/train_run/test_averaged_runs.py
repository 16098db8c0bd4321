"""A run of `schedule_free_adamw` shows, gives out and goes on from the mean of its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from builders import write_woven_dataset
from training_runs import Training, column

from weave_train import load
from weave_train.checkpoint.layout import find_checkpoint_at
from weave_train.checkpoint.prismatic import read_prismatic
from weave_train.checkpoint.reading import read_values
from weave_train.engine.schedule_free import WeightAverage
from weave_train.exports.export import export_run
from weave_train.feed import open_source
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import collate, make_row

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

NUM_STEPS, NUM_WARM_UP, STOPPED_AT, RATE = 6, 2, 3, 2e-3
RATES = [RATE / 2, *[RATE] * 5]
NUM_HELD_OUT = 5
FLAGS = (
    *("--model.finetune_lr_scheduler_type", "schedule_free_adamw"),
    *("--model.finetune_learning_rate", str(RATE)),
    *("--model.finetune_warmup_ratio", str(NUM_WARM_UP / NUM_STEPS)),
    *("--max_steps", str(NUM_STEPS), "--save_every_steps", "1", "--zero_stage", "2"),
    *("--val_dataset.split", "val", "--val_every_steps", "1"),
)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("averaged")
    manifest = write_woven_dataset(
        root / "woven", rows=30, clips_per_sample=2, frames_per_sample=4, val_rows=NUM_HELD_OUT
    )
    return Training(manifest, root / "runs")


@pytest.fixture(scope="module")
def run_dir(training: Training) -> Path:
    """Stopped in the middle and resumed; every step is saved."""
    for extra in (("--stop_after_steps", str(STOPPED_AT)), ()):
        done = training.alone("run", *FLAGS, *extra)
        assert done.returncode == 0, done.stderr
    return training.root / "run"


def step_dir(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:06d}"


def stored(run_dir: Path, step: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """y and z as they lie in a checkpoint, by parameter name."""
    checkpoint = find_checkpoint_at(str(step_dir(run_dir, step)))
    y = {name: torch.empty(shape) for name, shape in checkpoint.shapes.items()}
    z = {f"z/{name}": torch.empty(shape) for name, shape in checkpoint.shapes.items()}
    files = [(checkpoint.key_of(piece), piece) for piece in checkpoint.pieces]
    read_values(checkpoint.store, files, y | z, origin=checkpoint.uri)
    return y, {name.removeprefix("z/"): value for name, value in z.items()}


def mean(run_dir: Path, stop_step: int) -> dict[str, torch.Tensor]:
    """Of z after each of the first steps, weighted by the squares of their rates: x by its definition."""
    squares = [rate**2 for rate in RATES[:stop_step]]
    sums: dict[str, torch.Tensor] = {}
    for step, square in enumerate(squares, start=1):
        for name, value in stored(run_dir, step)[1].items():
            sums[name] = sums.get(name, torch.zeros(())) + square * value.double()
    return {name: (value / sum(squares)).float() for name, value in sums.items()}


def differ(vlm: VideoLanguageModel, values: dict[str, torch.Tensor]) -> float:
    """Largest difference of the trained parameters."""
    parameters = dict(vlm.core.named_parameters())
    return max(float((parameters[name].float() - value).abs().max()) for name, value in values.items())


def held_out_loss(vlm: VideoLanguageModel, manifest: str) -> float:
    """In plain torch, all rows in one batch."""
    source = open_source(manifest, split="val")
    table = [row for index in range(2) for row in source.read(0, 0, index, epoch=0).to_pylist()]
    rows = [make_row(row, tokenizer=vlm.tokenizer, settings=vlm.settings) for row in table]
    assert len(rows) == NUM_HELD_OUT
    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    with torch.no_grad():
        return float(vlm.core(vlm.frozen_features(batch), batch)) / batch.num_supervised


def test_the_rates_rise_and_stay(run_dir: Path) -> None:
    assert column(run_dir, "Learning Rate") == pytest.approx(RATES)


@pytest.mark.parametrize("step", [STOPPED_AT, NUM_STEPS])
def test_load_gives_the_mean_of_all_steps_also_after_a_resume(run_dir: Path, step: int) -> None:
    expected, (y, _) = mean(run_dir, step), stored(run_dir, step)
    vlm = load(step_dir(run_dir, step), device="cpu")
    assert differ(vlm, expected) < 1e-6
    assert differ(vlm, y) > 1e-4


def test_a_checkpoint_says_what_the_mean_has_seen(run_dir: Path) -> None:
    average = WeightAverage()
    for step, rate in enumerate(RATES, start=1):
        average = average.after(rate)
        state = find_checkpoint_at(str(step_dir(run_dir, step))).state["optimizer"]
        assert state["id"] == "schedule_free_adamw"
        assert state["average"] == pytest.approx({"beta1": 0.9, **asdict(average)})


def test_validation_is_of_the_mean(run_dir: Path, training: Training) -> None:
    told = column(run_dir, "Validation Loss")
    for step in (STOPPED_AT, STOPPED_AT + 1, NUM_STEPS):
        vlm = load(step_dir(run_dir, step), device="cpu")
        assert told[step - 1] == pytest.approx(held_out_loss(vlm, training.manifest), rel=1e-5)
    for name, value in stored(run_dir, NUM_STEPS)[0].items():
        vlm.core.get_parameter(name).data.copy_(value)
    assert told[-1] != pytest.approx(held_out_loss(vlm, training.manifest), rel=1e-4)


def test_an_export_is_of_the_mean(run_dir: Path, tmp_path: Path) -> None:
    export_run(run_dir, tmp_path / "run.pt", kind="prismatic")
    exported = read_prismatic(tmp_path / "run.pt")
    for name, value in mean(run_dir, NUM_STEPS).items():
        part, _, rest = name.partition(".")
        weights = exported["language" if part == "language_model" else part]
        assert float((weights[rest] - value).abs().max()) < 1e-6, name
