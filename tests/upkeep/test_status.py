"""A running, a dead and a finished build are told apart, with how far each is and what it waits for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from upkeep_builds import configuration

from weave_data.commands import status as status_command
from weave_data.pipeline.runs import RunLog
from weave_data.storage import open_store
from weave_data.upkeep import StageStatus, read_status
from weave_data.upkeep.binding import find_binding
from weave_data.upkeep.run_records import RunRecord


def amounts(stages: tuple[StageStatus, ...]) -> dict[str, tuple[int, int | None]]:
    return {stage.stage: (stage.done, stage.total) for stage in stages}


FINISHED = {"decode": (4, 4), "embed": (4, 4), "shards of l1": (2, 2), "shards of l4": (2, 2)}


def test_a_finished_build_is_whole_and_published(pristine: Path) -> None:
    found = read_status(open_store(str(pristine), readonly=True), now=time.time())
    assert (found.state, found.outcome) == ("finished", "done")
    assert amounts(found.stages) == FINISHED
    assert found.published == {"l1": 26, "l4": 6}
    assert found.binding is None
    assert all(stage.eta_seconds is None for stage in found.stages)


@pytest.fixture
def half(woven: Path, rendered: Path) -> Path:
    """The finished build without what comes after half of its parts."""
    shutil.rmtree(woven / "runs")
    for recipe in ("l1", "l4"):
        shutil.rmtree(woven / recipe)
    for room in ("plans", "groups", "rejects"):
        shutil.rmtree(woven / room)
    layers = sorted((woven / "frames").rglob("*.parquet"))
    layers[0].unlink()  # its tar is there: not a complete layer
    sorted((woven / "embeddings").rglob("*.parquet"))[0].unlink()
    return woven


def test_a_running_build_says_how_far_it_is_and_for_what_it_waits(half: Path, rendered: Path) -> None:
    store = open_store(str(half))
    log = RunLog.start(store, configuration(rendered, half), beat_seconds=0.02)
    try:
        for path in half.rglob("*.parquet"):
            path.touch()
        now = time.time() + 60
        found = read_status(store, now=now)
        assert found.state == "running"
        assert amounts(found.stages) == {"decode": (3, 4), "embed": (3, 4)}
        decode = found.stages[0]
        assert decode.per_minute == pytest.approx(3.0, rel=0.2)
        assert decode.eta_seconds == pytest.approx(20, rel=0.2)
        assert found.binding is not None
        assert found.binding.remedy.startswith("decode-bound: vectors keep up with decoding; add cores")
    finally:
        log.finish("done", {})


def test_a_killed_build_is_dead_and_the_remedy_is_the_same_command(half: Path, rendered: Path) -> None:
    store = open_store(str(half))
    log = RunLog.start(store, configuration(rendered, half))
    found = read_status(store, now=time.time() + 200)
    assert (found.state, found.run_id, found.binding) == ("dead", log.run_id, None)
    assert "is dead, last seen 2" in found.headline()
    assert "the same build command resumes it" in found.headline()
    log.finish("done", {})


def test_a_failed_build_shows_its_error(half: Path, rendered: Path) -> None:
    store = open_store(str(half))
    RunLog.start(store, configuration(rendered, half)).finish("RejectLimitError", {"message": "9 of 26"})
    assert read_status(store, now=time.time()).headline().endswith("ended: RejectLimitError (9 of 26)")


def test_refused_clips_are_counted_by_stage_and_reason(
    rendered: Path, tmp_path: Path, rebuild: Callable[..., None]
) -> None:
    source = Path(shutil.copytree(rendered, tmp_path / "source"))
    videos = sorted((source / "videos").rglob("*.mp4"))
    videos[0].write_bytes(b"")
    videos[1].write_bytes(b"no video at all, but some text " * 20)
    rebuild(tmp_path / "woven", "recipes.l4.clips_per_sample=2", "rejects.max_fraction=0.5", source=source)
    found = read_status(open_store(str(tmp_path / "woven")), now=time.time())
    assert found.rejects == {"catalog": {"empty_file": 1}, "decode": {"not_a_video": 1}}


def test_an_output_without_runs_has_no_state(tmp_path: Path) -> None:
    found = read_status(open_store(str(tmp_path)), now=time.time())
    assert found.headline() == f"{tmp_path}: no build has run here"


def run_with(decode: float, embed: float) -> RunRecord:
    """A run of 100 seconds: 8 cores and 1 actor, busy for these shares of it."""
    progress = {
        "decode": {"began": 0.0, "busy_seconds": decode * 800, "workers": 8},
        "embed": {"began": 0.0, "busy_seconds": embed * 100, "workers": 1},
    }
    return RunRecord("r", 0.0, 100.0, {}, progress, None, has_beat=True)


@pytest.mark.parametrize(
    ("decode", "embed", "resource", "remedy"),
    [
        (0.98, 0.10, "cores", "decode-bound: embedding actors idle 90%; 72 more cores would keep them busy"),
        (0.25, 1.00, "actors", "embed-bound: decoders idle 75%; 3 more actors would keep up"),
    ],
)
def test_busy_seconds_name_the_binding_resource_and_how_much_of_it_is_missing(
    decode: float, embed: float, resource: str, remedy: str
) -> None:
    stages = (StageStatus("decode", 5, 10, "parts"), StageStatus("embed", 5, 10, "parts"))
    found = find_binding(run_with(decode, embed), stages, now=100.0)
    assert found is not None
    assert found.resource == resource
    assert found.remedy.startswith(remedy)


def test_parts_that_wait_for_vectors_mean_that_embedding_binds() -> None:
    stages = (StageStatus("decode", 9, 10, "parts"), StageStatus("embed", 2, 10, "parts"))
    run = RunRecord("r", 0.0, 100.0, {}, {}, None, has_beat=True)
    found = find_binding(run, stages, now=100.0)
    assert found is not None
    assert found.remedy == "embed-bound: 7 decoded parts wait for their vectors; add GPUs (execution.gpus)"


def test_the_command_prints_tables_or_json_and_watching_a_finished_build_ends(pristine: Path) -> None:
    app = typer.Typer()
    status_command.register(app)
    runner = CliRunner()
    for words in ([], ["--watch"]):
        done = runner.invoke(app, [str(pristine), *words])
        assert done.exit_code == 0
        assert "shards of l4" in done.output
        assert "published: l4, 6 samples" in done.output
    found = json.loads(runner.invoke(app, [str(pristine), "--json"]).output)
    assert (found["state"], found["published"]) == ("finished", {"l1": 26, "l4": 6})
