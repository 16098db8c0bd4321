"""A task or a step that lost too much ends the command with its code, and keeps no other from its score."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from test_following import publish
from tiny_rows import jpeg

from weave_data.errors import RejectLimitError, VerificationError
from weave_train.commands.evaluate import evaluate
from weave_train.evaluate import weights
from weave_train.models.model import VideoLanguageModel


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """`questions`: one without a video, one about a picture that is missing. `mlvu`: one that is there."""
    folder = tmp_path / "data"
    folder.mkdir()
    asked = {"question": "Which?", "options": ["red", "blue"], "answer": 0}
    rows = [{"id": "text", "video": None, **asked}, {"id": "gone", "video": "gone.jpg", **asked}]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"video": "there.jpg", "question": "Which?", "candidates": ["x", "y"], "answer": "y"}
    (folder / "mlvu.json").write_text(json.dumps([{**row, "question_type": "plotQA"}]))
    (folder / "there.jpg").write_bytes(jpeg((9, 9, 9)))
    return folder


@pytest.fixture
def run(run_dir: Path, vlm: VideoLanguageModel, tmp_path: Path) -> Path:
    """Of two checkpoints, its last step among them."""
    run = shutil.copytree(run_dir, tmp_path / "run")
    publish(run, vlm, 20)
    publish(run, vlm, 40, num_steps=40)
    return run


def steps_of_curve(run: Path) -> list[int]:
    lines = (run / "evaluations" / "curve.jsonl").read_text().splitlines()
    return sorted({json.loads(line)["step"] for line in lines})


def test_following_goes_on_after_a_step_that_lost_too_much_and_names_it_also_when_started_again(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def follow() -> None:
        evaluate(str(run), task="questions", data=str(data), generate=False, follow=True, every_steps=20)

    for _ in range(2):
        with pytest.raises(RejectLimitError, match=r"at step 20 \(questions\), 40 \(questions\); see"):
            follow()
        assert steps_of_curve(run) == [20, 40]
        assert "step 20: questions: 50.0% of the rows have no answer" in capsys.readouterr().out
    shutil.rmtree(run / "checkpoints" / "step-000020")
    (data / "gone.jpg").write_bytes(jpeg((9, 9, 9)))
    with pytest.raises(RejectLimitError, match=r"at step 20 \(questions\); see"):
        follow()
    shutil.rmtree(run / "evaluations" / "step-000020")
    follow()
    assert steps_of_curve(run) == [40]


def test_a_checkpoint_that_is_removed_before_it_is_loaded_is_left_out_and_a_damaged_one_ends_the_command(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "gone.jpg").write_bytes(jpeg((9, 9, 9)))
    found = weights.pin_checkpoint

    def pin_then_remove(checkpoint: weights.Checkpoint) -> weights.PinnedModel:
        pinned = found(checkpoint)
        if checkpoint.step == 20:
            shutil.rmtree(run / "checkpoints" / "step-000020")
        return pinned

    monkeypatch.setattr(weights, "pin_checkpoint", pin_then_remove)
    evaluate(str(run), task="questions", data=str(data), generate=False, follow=True, every_steps=20)
    assert "step 20: the run removed it before it was read; left out" in capsys.readouterr().out
    assert steps_of_curve(run) == [40]
    shutil.rmtree(run / "evaluations")
    next((run / "checkpoints" / "step-000040").rglob("weights-*")).unlink()
    with pytest.raises(VerificationError, match="step-000040"):
        evaluate(str(run), task="questions", data=str(data), generate=False, follow=True, every_steps=20)


def test_a_task_that_lost_too_much_keeps_no_other_from_being_asked(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"data": str(data), "generate": False, "to": tmp_path / "to"}
    for _ in range(2):
        with pytest.raises(RejectLimitError, match=r"^questions: 50\.0% of the rows[^\n]*$"):
            evaluate(str(run), task="questions,mlvu", **asked)  # type: ignore[arg-type]
        said = capsys.readouterr().out
        assert "questions, frames: 1 questions, 1 lost" in said
        assert "mlvu, frames: 1 questions, 0 lost" in said
    (data / "there.jpg").unlink()
    with pytest.raises(RejectLimitError, match=r"^questions: 50\.0%[^\n]*\nmlvu: 100\.0%[^\n]*$"):
        evaluate(str(run), task="questions,mlvu", **{**asked, "to": tmp_path / "other"})  # type: ignore[arg-type]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.process
def test_ranks_ask_every_task_too_and_ask_what_was_missing_again(
    run: Path, data: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "weave_train", "evaluate", str(run), "--task", "questions,mlvu"),
        *("--data", str(data), "--to", str(tmp_path / "to"), "--no-generate", "--batch-size", "1"),
        *("--num-ranks", "2"),
    ]

    def ended(code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    done = ended(4)
    assert "weave-train: questions: 50.0% of the rows have no answer" in done.stderr
    assert "mlvu, frames: 1 questions, 0 lost" in done.stdout
    (data / "gone.jpg").write_bytes(jpeg((9, 9, 9)))
    assert "questions, frames: 2 questions, 0 lost" in ended(0).stdout


@pytest.mark.process
def test_an_evaluation_that_starts_ranks_ends_with_whoever_started_it(run: Path, data: Path) -> None:
    for step in (30, 40):  # without its last step a run is followed for ever
        shutil.rmtree(run / "checkpoints" / f"step-{step:06d}")
    started = (
        "import os, subprocess, sys; subprocess.Popen(sys.argv[1:], "
        "env={**os.environ, 'WEAVE_TRAIN_PARENT': str(os.getpid())}).wait()"
    )
    command = [
        *(sys.executable, "-c", started, sys.executable, "-m", "weave_train", "evaluate", str(run)),
        *("--task", "questions", "--data", str(data), "--follow", "--num-ranks", "2"),
    ]
    starter = subprocess.Popen(
        command, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "step 20\n"
    family = psutil.Process(starter.pid).children(recursive=True)
    try:
        starter.kill()
        starter.wait()
        _, alive = psutil.wait_procs(family[:1], timeout=60)
        assert not alive
    finally:
        for process in family:
            if process.is_running():
                process.kill()
