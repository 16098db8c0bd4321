"""A run whose checkpoints go to S3 is resumed from there alone; what is another run's is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from servers import S3Server
from training_runs import Training

from weave_data.storage import open_store
from weave_train.checkpoint.layout import complete_steps, find_checkpoint_at
from weave_train.loading import load

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def ledger(run_dir: Path) -> list[Any]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["Finetune/Ledger"] for line in lines]


@pytest.mark.server
def test_another_machine_resumes_from_s3_alone(training: Training, s3: S3Server) -> None:
    uri = f"s3://{s3.new_bucket()}/runs/one"
    given = [*("--checkpoint.uri", uri, "--checkpoint.keep_last", "1"), "--max_steps", "6"]
    run_dir = training.start("to-s3", *given, "--zero_stage", "2", "--stop_after_steps", "4")
    first = ledger(run_dir)
    assert not (run_dir / "checkpoints").exists()
    assert not (run_dir / "frozen").exists()
    here = load(run_dir, device="cpu")  # the run's directory says where its checkpoints are
    shutil.rmtree(run_dir)
    training.start("to-s3", *given, "--zero_stage", "3", "--save_every_steps", "1", num_ranks=3)
    assert len(ledger(run_dir)) == 2
    assert not set(first) & set(ledger(run_dir))
    assert complete_steps(open_store(uri)) == [6]
    shutil.rmtree(run_dir)
    loaded = load(uri, device="cpu")
    assert loaded.settings == here.settings
    named = dict(loaded.core.named_parameters())
    assert any(not torch.equal(named[name], value) for name, value in here.core.named_parameters())
    done = training.alone("another", *given)
    assert done.returncode == 2
    assert "holds checkpoints of run 'to-s3', this is run 'another'" in done.stderr


def test_a_run_from_another_runs_checkpoint_goes_on_with_the_same_command(training: Training) -> None:
    flags = ["--zero_stage", "0", "--save_every_steps", "1", "--max_steps", "6"]
    assert training.alone("parent", *flags, "--stop_after_steps", "3").returncode == 0
    parent = training.root / "parent"
    origin = find_checkpoint_at(f"{parent}/checkpoints/step-000002").uri
    command = [*flags, "--resume", origin, "--stop_after_steps", "1"]
    for expected in (3, 4):
        done = training.alone("child", *command)
        assert done.returncode == 0, done.stderr
        assert find_checkpoint_at(str(training.root / "child")).step == expected
    done = training.alone("child", *flags, "--resume", f"{parent}/checkpoints/step-000001")
    assert done.returncode == 2
    assert "is not what this run goes on from" in done.stderr
    shutil.rmtree(origin)  # kept no longer than its own run's settings say
    done = training.alone("child", *command)
    assert done.returncode == 0, done.stderr
    assert find_checkpoint_at(str(training.root / "child")).step == 5
    done = training.alone("child", *flags, "--stage", "full-finetune")
    assert done.returncode == 2
    assert "stage was 'finetune', is 'full-finetune'" in done.stderr
    origin = find_checkpoint_at(f"{parent}/checkpoints/step-000001").uri
    done = training.alone("parent", *flags, "--resume", origin)
    assert done.returncode == 2
    assert f"which is {parent}/checkpoints/step-000003" in done.stderr


def test_a_damaged_newest_checkpoint_is_refused_saying_how_to_go_back(training: Training) -> None:
    flags = ["--zero_stage", "0", "--save_every_steps", "1", "--max_steps", "3"]
    assert training.alone("damaged", *flags, "--stop_after_steps", "2").returncode == 0
    newest = find_checkpoint_at(str(training.root / "damaged"))
    path = Path(newest.store.uri) / newest.key_of(newest.pieces[0])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = training.alone("damaged", *flags)
    assert done.returncode == 5
    assert f"{path}: its bytes changed since it was written" in done.stderr
    path.unlink()
    done = training.alone("damaged", *flags)
    assert done.returncode == 5
    assert f"delete {newest.uri}/complete.json to go on from the checkpoint before" in done.stderr
    (Path(newest.uri) / "complete.json").unlink()
    done = training.alone("damaged", *flags)
    assert done.returncode == 0, done.stderr
    assert complete_steps(newest.store) == [1, 2, 3]


def test_frozen_weights_that_come_out_otherwise_are_put_back(training: Training, odd_model: Path) -> None:
    """Stage align: the file that the language model came from is another one when the run resumes."""
    base = training.root / "base"
    shutil.copytree(odd_model, base)
    flags = [
        *("--model.llm_backbone_id", f"hf:{base}", "--stage", "align", "--zero_stage", "0"),
        *("--model.arch_specifier", "gelu-mlp", "--model.align_global_batch_size", "9"),
        *("--model.align_per_device_batch_size", "3", "--max_steps", "2"),
    ]
    done = training.alone("frozen", *flags, "--stop_after_steps", "1")
    assert done.returncode == 0, done.stderr
    before = load(training.root / "frozen", device="cpu").core.language_model.state_dict()
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    save_file(
        {name: value + 0.5 for name, value in weights.items()}, base / "model.safetensors", {"format": "pt"}
    )
    done = training.alone("frozen", *flags)
    assert done.returncode == 0, done.stderr
    after = load(training.root / "frozen", device="cpu").core.language_model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert len(list((training.root / "frozen" / "frozen").glob("language-*"))) == 1
