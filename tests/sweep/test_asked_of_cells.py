"""A sweep whose questions could not be asked says so before anything is trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_files import load, plain, write_sweep

from weave_data.errors import ConfigError
from weave_train import cli
from weave_train.commands.asked_of_cells import check_evaluations, check_questions
from weave_train.sweep import Sweep

QUESTION = {"id": "q1", "video": None, "question": "Which?", "options": ["a", "b"], "answer": 0}


def refused(check: Callable[[Sweep], None], root: Path, *entries: dict[str, Any]) -> list[str]:
    sweep = load(root, plain(root) | {"evaluate": list(entries), "contrasts": [], "figure": None})
    with pytest.raises(ConfigError) as caught:
        check(sweep)
    return list(caught.value.problems)


def test_flags_tasks_and_modes_that_evaluate_does_not_know_are_said_at_once(tmp_path: Path) -> None:
    data = str(tmp_path)
    found = refused(
        check_evaluations,
        tmp_path,
        {"task": "question", "data": data},
        {"task": "questions", "data": data, "name": "a", "flags": {"num-frame": 16}},
        {"task": "questions", "data": data, "name": "b", "flags": {"batch-size": 0}},
        {"task": "questions", "data": data, "name": "c", "flags": {"modes": "frames,blnd"}},
        {"task": "questions", "data": data, "name": "d", "flags": {"follow": True, "generate": False}},
    )
    assert found[0] == "evaluate.0: task: there is no 'question' (did you mean 'questions'?)"
    assert "--num-frame" in found[1]
    assert found[1].startswith("evaluate.1.flags: ")
    assert found[2].startswith("evaluate.2.flags: ")
    assert "'blnd' is none of frames" in found[3]
    assert found[4] == "evaluate.4.flags.follow: is the sweep's own"
    assert len(found) == 5


def test_question_files_that_are_not_there_or_hold_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "questions.jsonl").write_text(json.dumps(QUESTION | {"answer": 9}) + "\n")
    found = refused(
        check_questions,
        tmp_path,
        {"task": "questions", "data": str(tmp_path / "missing"), "name": "a"},
        {"task": "questions", "data": str(tmp_path / "empty"), "name": "b"},
    )
    assert "missing holds no questions.jsonl or questions.json" in found[0]
    assert f"1 of 1 rows of {tmp_path}/empty can't be asked, the first q1: " in found[1]


def test_as_many_bad_rows_as_max_lost_refuses_are_said_before_training(tmp_path: Path) -> None:
    rows = [QUESTION | {"id": f"q{number}"} for number in range(9)] + [QUESTION | {"answer": 9}]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = refused(
        check_questions,
        tmp_path,
        {"task": "questions", "data": str(tmp_path), "name": "a", "flags": {"max-lost": 0.1}},
        {"task": "questions", "data": str(tmp_path), "name": "b"},
    )
    assert [line.split(":")[0] for line in found] == ["evaluate.1.data"]
    assert "1 of 10 rows" in found[0]


def test_a_token_is_not_kept_with_the_cells(tmp_path: Path) -> None:
    found = refused(
        check_evaluations,
        tmp_path,
        {"task": "questions", "data": str(tmp_path), "flags": {"hf-token": "hf_abc"}},
    )
    assert "name a file or a variable" in found[0]
    assert "hf_abc" not in found[0]


def test_a_sweep_without_its_questions_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write_sweep(tmp_path, plain(tmp_path)))
    monkeypatch.setattr(sys, "argv", ["weave-train", "sweep", file])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ConfigError.exit_code
    assert "evaluate.0.data: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
