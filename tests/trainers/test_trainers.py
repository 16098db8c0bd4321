"""Anybody can train on a woven data set: a trainer is a class behind an entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from builders import write_woven_dataset

from weave_data.errors import ConfigError
from weave_data.trainers import RunResult, Trainer, find_trainer, trainer_names

TOY_TRAINER = """
from weave_data.shard import iter_rows, open_dataset
from weave_data.trainers import RunResult


class ToyTrainer:
    name = "toy"

    def run(self, manifest_uri, options, *, num_workers):
        dataset = open_dataset(manifest_uri)
        rows = list(iter_rows(dataset.store, dataset.manifest))
        words = sum(len(row.conversations[1].value.split()) for row in rows)
        return RunResult(run_dir=options["run_dir"], final_step=len(rows), final_loss=1.0 / words)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A third party's distribution on the path: one module and its metadata, nothing of ours."""
    site = tmp_path / "site"
    metadata = site / "toy_trainer-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "toy_trainer.py").write_text(TOY_TRAINER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-trainer\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[weave_data.trainers]\n"
        "toy = toy_trainer:ToyTrainer\n"
        "absent = toy_absent:ToyTrainer\n"
        "nothing = toy_trainer:RunResult.__doc__.__class__\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "toy_trainer", raising=False)
    return site


def test_a_third_party_plugs_in_with_ten_lines(installed: Path, tmp_path: Path) -> None:
    uri = write_woven_dataset(tmp_path / "out", rows=5, clips_per_sample=1, frames_per_sample=1, image_px=16)
    trainer = find_trainer("toy")
    assert isinstance(trainer, Trainer)
    result = trainer.run(uri, {"run_dir": "here"}, num_workers=1)
    assert isinstance(result, RunResult)
    assert (result.run_dir, result.final_step) == ("here", 5)
    assert 0 < result.final_loss < 1


def test_installed_trainers_are_listed_ours_among_them(installed: Path) -> None:
    assert {"deepspeed", "toy"} <= set(trainer_names())


def test_ours_is_found_by_its_name() -> None:
    assert find_trainer("deepspeed").name == "deepspeed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deepsped", "did you mean 'deepspeed'"),
        ("absent", "can't load toy_absent:ToyTrainer"),
        ("nothing", "has no `name` and `run`"),
    ],
)
def test_what_is_no_trainer_is_refused_by_name(installed: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_trainer(name)


@pytest.mark.parametrize(
    ("options", "workers", "message"),
    [
        ({"run_id": "a", "model.type": "tiny"}, 0, "at least one process"),
        ({"model.type": "tiny"}, 1, "run_id: required"),
        ({"run_id": "a", "model.type": "tiny", "dry_run": True}, 1, "dry_run: has no run to tell of"),
        ({"run_id": "a", "model.type": "tiny", "max_step": 3}, 1, "did you mean 'max_steps'"),
    ],
)
def test_wrong_options_are_found_before_any_process_starts(options, workers, message) -> None:
    with pytest.raises(ConfigError, match=message):
        find_trainer("deepspeed").run("out/l4/manifest.json", options, num_workers=workers)


@pytest.mark.process
def test_deepspeed_trains_in_two_processes_through_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    uri = write_woven_dataset(tmp_path / "out", rows=9, clips_per_sample=1, frames_per_sample=2)
    options = {
        "model.type": "tiny",
        "model.finetune_global_batch_size": 4,
        "max_steps": 3,
        "zero_stage": 2,
        "run_root_dir": str(tmp_path / "runs"),
        "run_id": "1e3",  # text, though it reads like a number
    }
    result = find_trainer("deepspeed").run(uri, options, num_workers=2)
    assert result.run_dir == str(tmp_path / "runs" / "1e3")
    assert result.final_step == 3
    assert 0 < result.final_loss < 8
