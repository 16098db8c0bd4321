"""Every checkpoint of a run is evaluated once, as it is published, and the curve has them all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stored_pieces import cut_evenly, write_checkpoint

from weave_data.errors import ConfigError
from weave_data.storage import LocalStore
from weave_train.checkpoint.layout import read_checkpoint
from weave_train.evaluate.following import curve_rows, new_checkpoints
from weave_train.models.model import VideoLanguageModel


def publish(run_dir: Path, vlm: VideoLanguageModel, step: int, *, num_steps: int = 30) -> None:
    """Another checkpoint with the same weights."""
    store = LocalStore(run_dir)
    first = read_checkpoint(store, 30) if (run_dir / "checkpoints" / "step-000030").exists() else None
    weights = dict(vlm.core.named_parameters())
    shapes = {name: value.shape for name, value in weights.items()}
    frozen = dict(first.frozen) if first is not None else {}
    write_checkpoint(
        store, cut_evenly(weights, 2), step=step, shapes=shapes, frozen=frozen, state={"num_steps": num_steps}
    )


def test_checkpoints_come_as_they_are_published_and_end_with_the_runs_last(
    vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    to_come = [[5, 10], [], [12], [15, 20]]

    def wait(seconds: float) -> None:
        assert seconds == 10.0
        for step in to_come.pop(0):
            publish(tmp_path, vlm, step, num_steps=20)

    seen = [c.step for c in new_checkpoints(str(tmp_path), done={10}, every_steps=5, wait=wait)]
    assert seen == [5, 15, 20]
    assert not to_come
    again = [c.step for c in new_checkpoints(str(tmp_path), done={5, 10, 12, 15, 20}, wait=wait)]
    assert again == []


def test_a_checkpoint_that_is_removed_meanwhile_is_left_out(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    for step in (5, 10, 20):
        publish(tmp_path, vlm, step, num_steps=20)
    found = new_checkpoints(str(tmp_path), done=set(), wait=lambda _: None)
    assert next(found).step == 5
    shutil.rmtree(tmp_path / "checkpoints" / "step-000010")
    assert [c.step for c in found] == [20]


def test_one_checkpoint_can_not_be_followed() -> None:
    with pytest.raises(ConfigError, match="is one checkpoint"):
        next(new_checkpoints("runs/a/checkpoints/step-000010", done=set()))


@pytest.mark.process
def test_the_command_follows_a_run_and_draws_its_curve(
    run_dir: Path, questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    publish(run, vlm, 20)
    publish(run, vlm, 40, num_steps=40)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [
        *(sys.executable, "-m", "weave_train", "evaluate", str(run), "--follow", "--every-steps", "20"),
        *("--task", "questions", "--data", str(questions_dir), "--no-generate", "--limit", "4"),
    ]
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "step" not in done.stdout  # all were there
    rows = [json.loads(line) for line in (run / "evaluations" / "curve.jsonl").read_text().splitlines()]
    assert [(row["step"], row["mode"], row["count"]) for row in rows] == [
        (20, "frames", 4), (20, "blind", 4), (40, "frames", 4), (40, "blind", 4),
    ]  # fmt: skip
    assert rows == curve_rows(run / "evaluations", ["questions"])
    assert (run / "evaluations" / "curve.png").read_bytes().startswith(b"\x89PNG")
