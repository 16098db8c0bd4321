"""Whole sweeps as processes: killed and gone on with, several cells at once, failed cells, Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from sweep_files import load, plain, write_sweep
from training_runs import ENVIRONMENT

from weave_data.errors import ConfigError
from weave_train.numbers import read_metrics
from weave_train.sweep.rooms import cell_environment

pytestmark = pytest.mark.process


def small(root: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Two cells of three and four steps, saved after the second."""
    values = plain(root)
    values |= {"name": name, "output": str(root / name), "seeds": [1], "evaluate": [], "contrasts": []}
    values["figure"] = None
    values["train"]["model"] |= {"finetune_global_batch_size": 4, "finetune_per_device_batch_size": 4}
    return {**values, **changes}


def asked(root: Path, name: str) -> dict[str, Any]:
    """The same, each cell asked twelve questions, one at a time."""
    folder = root / "questions"
    if not folder.exists():
        folder.mkdir()
        lines = [
            {
                "id": f"q{number:02d}",
                "video": "picture",
                "question": "Which?",
                "options": ["a", "b"],
                "answer": 0,
            }
            for number in range(12)
        ]
        (folder / "picture").mkdir()
        Image.new("RGB", (32, 32), (200, 30, 30)).save(folder / "picture" / "0000.png")
        (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = {"batch-size": 1, "generate": False}
    return small(root, name, evaluate=[{"task": "questions", "data": str(folder), "flags": flags}])


def begin(root: Path, values: dict[str, Any], *words: str) -> subprocess.Popen[str]:
    folder = root / f"file-{values['name']}"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "weave_train", "sweep", str(write_sweep(folder, values)), *words]
    return subprocess.Popen(
        command,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == code, said
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweeps")
    plain(root)
    return root


@pytest.fixture(scope="module")
def straight(world: Path) -> Path:
    """Output of a sweep that nobody disturbed, both cells at once."""
    said = ended(begin(world, asked(world, "straight"), "--num-parallel", "2"))
    assert "l1-s1: done" in said
    return world / "straight"


def table(output: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((output / "table.json").read_text())
    return {key: value for key, value in values.items() if key != "name"}


def losses(output: Path) -> dict[str, list[float]]:
    return {
        cell.name: [line["Finetune/Loss (Raw)"] for line in read_metrics(cell / "train")]
        for cell in sorted((output / "cells").iterdir())
    }


def test_cells_are_trained_and_their_costs_written_down(straight: Path) -> None:
    assert {cell: len(values) for cell, values in losses(straight).items()} == {"l1-s1": 3, "l4-s1": 4}
    used = {arm["arm"]: arm["used"]["1"] for arm in table(straight)["arms"]}
    assert {
        arm["metrics"]["questions/frames/likelihood"]["questions"] for arm in table(straight)["arms"]
    } == {12}
    assert used["l4"]["steps"] == 4
    assert used["l4"]["samples"] == 16
    assert used["l4"]["flops"] > used["l1"]["flops"] > 0


def test_a_sweep_that_is_killed_anywhere_goes_on_and_gives_the_same_table(
    world: Path, straight: Path
) -> None:
    values = asked(world, "killed")
    moments = [
        "l1-s1/train/checkpoints/step-000002/complete.json",
        "l1-s1/evaluations/questions/*/questions/parts/*",
        "l4-s1/train/config.json",
    ]
    for moment in moments:
        process = begin(world, values)
        while not any((world / "killed" / "cells").glob(moment)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive, "a killed sweep leaves no run behind"
        assert not (world / "killed" / "table.json").exists()
    assert "l1-s1: trains" not in ended(begin(world, values)), "a finished cell is trained once"
    assert table(world / "killed") == table(straight)
    assert losses(world / "killed") == losses(straight)


def test_sigterm_has_runs_save_and_the_same_command_goes_on(world: Path) -> None:
    values = small(world, "stopped")
    values["train"] |= {"max_steps": 400, "save_every_steps": 400}
    process = begin(world, values, "--only", "l1")
    run_dir = world / "stopped" / "cells" / "l1-s1" / "train"
    while len(read_metrics(run_dir)) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert "stopped; the same command goes on" in ended(process, 6)
    (saved,) = (run_dir / "checkpoints").glob("step-*/complete.json")
    assert 2 <= int(saved.parent.name.removeprefix("step-")) < 400


def test_a_cell_that_fails_leaves_the_others_and_says_why(world: Path) -> None:
    values = small(world, "failed")
    values["arms"]["l1"]["recipe"] = str(world / "none" / "l1" / "manifest.json")
    said = ended(begin(world, values), 6)
    assert "l4-s1: done" in said
    last = said.splitlines()[-1]
    assert last.startswith("weave-train: 1 of 2 cells failed")
    assert "l1-s1: stage train ended with exit code" in last
    assert "logs/train.log)" in last
    assert table(world / "failed")["missing"] == ["l1-s1"]


def test_cells_run_as_tasks_of_a_ray_cluster_with_the_same_losses(world: Path, straight: Path) -> None:
    said = ended(begin(world, small(world, "ray"), "--launcher", "ray", "--num-parallel", "1"))
    assert "l4-s1: done" in said
    assert losses(world / "ray") == losses(straight)
    (arm, other) = table(world / "ray")["arms"]
    assert [arm["used"], other["used"]] == [each["used"] for each in table(straight)["arms"]]


def test_cells_at_once_have_gpus_and_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    room = {"num_parallel": 2, "num_cores": 16}
    apart = [cell_environment(place, ranks=2, devices="4567", **room) for place in range(2)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in apart] == ["4,5", "6,7"]
    assert apart[0]["OMP_NUM_THREADS"] == "4"
    shared = [cell_environment(place, ranks=1, devices="0", **room) for place in range(2)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in shared] == ["0", "0"]
    with pytest.raises(ConfigError, match="need 4 GPUs, there are 3; give at most 1"):
        cell_environment(0, ranks=2, devices="012", **room)
    assert cell_environment(0, ranks=2, devices=(), num_parallel=1, num_cores=16) == {}


def test_there_is_no_such_arm(world: Path) -> None:
    sweep = load(world, small(world, "none"))
    with pytest.raises(ConfigError, match="only: there is no arm 'l2': l1, l4"):
        sweep.chosen(["l1", "l2"])
