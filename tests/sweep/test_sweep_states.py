"""What is done is read from the cell's own files; what was made otherwise is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from builders import write_woven_dataset
from sweep_files import load, plain, pretend_answered, pretend_trained

from weave_data.errors import ConfigError
from weave_train.sweep import Cell, plan_lines
from weave_train.sweep.children import Children
from weave_train.sweep.run_cell import finish_cell
from weave_train.sweep.states import is_cell_done, is_trained, steps_to_ask


def first_cell(root: Path, **changes: Any) -> Cell:
    return load(root, {**plain(root), **changes}).cells[0]


def half(cell: Cell, number: int, mode: str, score: str) -> float:
    return float(number % 2)


def test_a_run_is_done_when_its_last_step_is_saved(tmp_path: Path) -> None:
    cell = first_cell(tmp_path)
    assert not is_trained(cell.last)
    pretend_trained(cell, steps=(2,), num_steps=3)
    assert not is_trained(cell.last)
    pretend_trained(cell, steps=(2, 3))
    assert is_trained(cell.last)
    assert steps_to_ask(cell, cell.evaluations[0]) == [3]
    assert not is_cell_done(cell)
    pretend_answered(cell, half)
    assert is_cell_done(cell)


def test_a_disk_that_takes_no_log_is_a_cells_failure(tmp_path: Path) -> None:
    cell = first_cell(tmp_path)
    cell.directory.mkdir(parents=True)
    (cell.directory / "logs").write_text("a file where a folder belongs")
    failure = finish_cell(cell, Children(), lambda _: None)
    assert failure is not None
    assert failure.cell == cell.name
    assert "logs" in failure.message


def test_every_kept_checkpoint_is_asked_where_a_curve_is_wanted(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["evaluate"][0]["checkpoints"] = "all"
    cell = load(tmp_path, values).cells[0]
    pretend_trained(cell)
    assert steps_to_ask(cell, cell.evaluations[0]) == [2, 3]


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"model.finetune_learning_rate": 0.5}, "finetune_learning_rate"), ({"max_steps": 9}, "max_steps")],
)
def test_a_run_with_other_settings_is_refused_done_or_not(
    tmp_path: Path, flags: dict[str, Any], said: str
) -> None:
    pretend_trained(first_cell(tmp_path), steps=(2,), num_steps=3)
    values = plain(tmp_path)
    values["train"].update(flags)
    with pytest.raises(ConfigError, match=f"was trained with .*{said}.*another output, or delete"):
        is_trained(load(tmp_path, values).cells[0].last)


def test_where_and_how_a_run_trains_may_change(tmp_path: Path) -> None:
    pretend_trained(first_cell(tmp_path))
    values = plain(tmp_path)
    values["train"].update({"num_workers": 0, "num_ranks": 2, "watch.step_timeout_s": 5.0})
    assert is_trained(load(tmp_path, values).cells[0].last)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert is_trained(first_cell(tmp_path, output=str(tmp_path / "moved")).last)


def test_a_data_set_built_anew_is_refused(tmp_path: Path) -> None:
    cell = first_cell(tmp_path)
    pretend_trained(cell)
    import shutil

    shutil.rmtree(tmp_path / "woven")
    write_woven_dataset(tmp_path / "woven", rows=9, clips_per_sample=2, frames_per_sample=4)
    with pytest.raises(ConfigError, match="was trained with dataset"):
        is_trained(cell.last)


def test_questions_that_changed_are_not_taken_for_answered(tmp_path: Path) -> None:
    cell = first_cell(tmp_path)
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "questions.jsonl").write_text("{}\n")
    pretend_trained(cell)
    pretend_answered(cell, half)
    assert is_cell_done(cell)
    (tmp_path / "questions" / "questions.jsonl").write_text("{}\n{}\n")
    with pytest.raises(ConfigError, match=r"was asked with questions .*another name, or delete"):
        is_cell_done(cell)


def test_so_are_those_of_tasks_with_other_files(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["evaluate"][0] |= {"task": "videomme", "name": "questions"}
    cell = load(tmp_path, values).cells[0]
    asked = tmp_path / "questions" / "test.parquet"
    asked.parent.mkdir()
    asked.write_bytes(b"published")
    pretend_trained(cell)
    pretend_answered(cell, half, question_files={"test.parquet": hashlib.sha256(b"published").hexdigest()})
    assert is_cell_done(cell)
    asked.write_bytes(b"corrected")
    with pytest.raises(ConfigError, match=r"was asked other questions than those of .*test\.parquet; give"):
        is_cell_done(cell)
    asked.unlink()
    with pytest.raises(ConfigError, match=r"test\.parquet, which can't be read .* put the file back"):
        is_cell_done(cell)


def test_an_evaluation_without_results_is_not_done(tmp_path: Path) -> None:
    cell = first_cell(tmp_path)
    pretend_trained(cell)
    pretend_answered(cell, half)
    next((tmp_path / "out").rglob("results.json")).unlink()
    assert not is_cell_done(cell)


def test_a_dry_run_lists_cells_commands_and_steps_and_writes_nothing(tmp_path: Path) -> None:
    values = plain(tmp_path)
    del values["train"]["max_steps"]
    values["train"]["model"]["finetune_global_batch_size"] = 3
    sweep = load(tmp_path, values)
    lines = list(plan_lines(sweep, sweep.cells))
    assert not (tmp_path / "out").exists()
    assert lines[0].startswith("plain: 6 cells, 2 arms x 3 seeds, 1 stages, 1 evaluations")
    assert lines.count("  train: 3 steps") == 3  # eight rows, three a batch
    assert lines.count("  train: 4 steps") == 3
    assert lines[-1] == "21 steps in all"
    assert sum(line.startswith("    weave-train evaluate ") for line in lines) == 6
    pretend_trained(sweep.cells[0])
    assert "  train: 3 steps, done" in list(plan_lines(sweep, sweep.cells))
    assert json.loads((sweep.cells[0].last.run_dir / "config.json").read_text())["pretrain"]["seed"] == 1
