"""A build gives signs of life while it lives, and none when it is dead."""

from __future__ import annotations

import time
from pathlib import Path

from upkeep_builds import configuration

from weave_data.pipeline.progress import no_progress
from weave_data.pipeline.runs import RunLog
from weave_data.storage import LocalStore, open_store
from weave_data.upkeep import BEAT_SECONDS, read_runs

WAIT_SECONDS = 30


def until(condition: object) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_a_run_beats_with_its_progress_and_leaves_one_end(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "woven"))
    log = RunLog.start(store, configuration("source", tmp_path / "woven"), beat_seconds=0.02)
    observed = log.observing(no_progress)
    observed("decode", 3, 26, "clips")
    log.add_busy("decode", 1.5, workers=2)
    log.add_busy("decode", 1.0, workers=2)
    until(lambda: read_runs(store)[-1].progress.get("decode", {}).get("busy_seconds") == 2.5)
    (record,) = read_runs(store)
    said = {name: value for name, value in record.progress["decode"].items() if name != "began"}
    assert said == {"done": 3, "total": 26, "unit": "clips", "busy_seconds": 2.5, "workers": 2}
    assert record.state(time.time()) == "running"
    assert record.state(time.time() + 5 * BEAT_SECONDS) == "dead"
    log.finish("done", {"files_written": 4})
    (record,) = read_runs(store)
    assert record.state(time.time()) == "finished"
    assert record.end is not None
    assert (record.end["outcome"], record.end["files_written"]) == ("done", 4)
    assert record.progress["decode"]["done"] == 3
    names = sorted(path.name for path in (tmp_path / "woven" / "runs" / log.run_id).iterdir())
    assert names == ["end.json", "start.json"]


def test_a_store_that_is_away_for_a_while_does_not_end_the_signs_of_life(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "woven")
    log = RunLog.start(store, configuration("source", tmp_path / "woven"), beat_seconds=0.02)
    folder = tmp_path / "woven" / "runs" / log.run_id
    away = folder.rename(folder.with_name("away"))
    folder.write_text("a file where a folder was")
    time.sleep(0.1)
    folder.unlink()
    away.rename(folder)
    before = max(path.name for path in folder.glob("alive-*"))
    until(lambda: max((path.name for path in folder.glob("alive-*")), default="") > before)
    log.finish("done", {})


def test_what_else_lies_below_runs_is_no_run(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put_new("runs/probe-0123", b"")
    store.put_new("runs/a/notes.txt", b"")
    assert read_runs(store) == []
