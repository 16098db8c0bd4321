"""A sweep goes on elsewhere from what another machine's cells answered, without their weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sweep_files import load, plain, pretend_answered, pretend_trained

from weave_data.errors import ConfigError, SourceError
from weave_train.sweep import Cell, Sweep, adopt_cells, publish_cells, run_sweep
from weave_train.sweep.children import Children
from weave_train.sweep.run_cell import finish_cell
from weave_train.sweep.states import is_cell_done


def scored(cell: Cell, number: int, mode: str, score: str) -> float:
    return float((number + cell.seed + len(cell.arm)) % 3 == 0)


def finished(root: Path) -> Sweep:
    sweep = load(root, plain(root))
    for cell in sweep.cells:
        pretend_trained(cell, steps=(2, cell.last.config.max_steps or 0))
        pretend_answered(cell, scored)
    return sweep


def test_adopted_cells_are_done_and_give_the_same_table(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    before = {path.name: path.read_bytes() for path in run_sweep(sweep, say=print)}
    files = publish_cells(sweep.cells, tmp_path / "published")
    assert [path.name for path in files[:2]] == ["l1-s1.tar.xz", "l1-s2.tar.xz"]
    shutil.rmtree(sweep.config.output)
    assert adopt_cells(sweep.cells, tmp_path / "published") == list(sweep.cells)
    assert not list(Path(sweep.config.output).rglob("complete.json"))
    said: list[str] = []
    assert {path.name: path.read_bytes() for path in run_sweep(sweep, say=said.append)} == before
    assert said == ["plain: 6 of 6 cells are done"]


def test_equal_cells_give_equal_bytes_also_when_they_were_adopted(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    first = [path.read_bytes() for path in publish_cells(sweep.cells, tmp_path / "a")]
    shutil.rmtree(sweep.config.output)
    adopt_cells(sweep.cells, tmp_path / "a")
    assert [path.read_bytes() for path in publish_cells(sweep.cells, tmp_path / "b")] == first


def test_no_path_of_the_machine_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = plain(tmp_path)
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "questions.jsonl").write_text("{}")
    values["evaluate"][0]["flags"] = {"wordnet": str(tmp_path / "wordnet")}
    values["train"]["model"]["vision_weights"] = str(tmp_path / "tower.safetensors")
    sweep = load(tmp_path, values)
    for cell in sweep.cells:
        pretend_trained(cell, steps=(2, cell.last.config.max_steps or 0))
        pretend_answered(cell, scored)
    publish_cells(sweep.cells[:1], tmp_path / "published")
    shutil.rmtree(sweep.config.output)
    adopt_cells(sweep.cells[:1], tmp_path / "published")
    texts = [path.read_text() for path in sweep.cells[0].directory.rglob("*") if path.is_file()]
    assert len(texts) > 4
    assert not any(str(tmp_path) in text for text in texts)
    assert is_cell_done(sweep.cells[0])
    (tmp_path / "questions" / "questions.jsonl").unlink()
    with pytest.raises(ConfigError, match="put the file back"):
        is_cell_done(sweep.cells[0])


def test_a_cell_that_was_begun_here_stays_as_it_is(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    publish_cells(sweep.cells, tmp_path / "published")
    kept = sweep.cells[0].last.run_dir / "config.json"
    kept.write_text("mine")
    shutil.rmtree(sweep.cells[1].directory)
    assert adopt_cells(sweep.cells, tmp_path / "published") == [sweep.cells[1]]
    assert kept.read_text() == "mine"
    assert is_cell_done(sweep.cells[1])


def test_adopted_cells_of_other_settings_are_refused(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    publish_cells(sweep.cells, tmp_path / "published")
    shutil.rmtree(sweep.config.output)
    values = plain(tmp_path)
    values["train"]["max_steps"] = 7
    other = load(tmp_path, values)
    adopt_cells(other.cells, tmp_path / "published")
    with pytest.raises(ConfigError, match="was trained with max_steps 3, the sweep now says 7"):
        is_cell_done(other.cells[0])


def test_what_is_damaged_or_missing_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    (path, *_) = publish_cells(sweep.cells[:1], tmp_path / "published")
    path.write_bytes(path.read_bytes()[:400])
    shutil.rmtree(sweep.config.output)
    with pytest.raises(SourceError, match=r"l1-s1\.tar\.xz: damaged"):
        adopt_cells(sweep.cells, tmp_path / "published")
    assert not list(Path(sweep.config.output).rglob("*"))
    with pytest.raises(ConfigError, match="has no <cell>"):
        adopt_cells(sweep.cells, tmp_path / "nowhere")


def test_cells_that_are_not_done_are_not_published_and_the_others_are_when_one_failed(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    shutil.rmtree(sweep.cells[4].last.run_dir / "checkpoints")
    files = publish_cells(sweep.cells, tmp_path / "published")
    assert [path.name for path in files] == [f"l{L}-s{seed}.tar.xz" for L, seed in DONE]


DONE = [(1, 1), (1, 2), (1, 5), (4, 1), (4, 5)]


def test_what_needs_an_adopted_cells_weights_is_refused_by_name(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    publish_cells(sweep.cells, tmp_path / "published")
    shutil.rmtree(sweep.config.output)
    for change in (
        {"stages": [{"name": "train"}, {"name": "more"}]},
        {"evaluate": [{"task": "questions", "data": str(tmp_path / "questions"), "name": "again"}]},
    ):
        values = plain(tmp_path) | {"contrasts": [], "figure": None, "metrics": []} | change
        cell = load(tmp_path, values).cells[0]
        if not cell.directory.exists():
            adopt_cells([cell], tmp_path / "published")
        failure = finish_cell(cell, Children(), print)
        assert failure is not None
        assert "was adopted without its weights" in failure.message
