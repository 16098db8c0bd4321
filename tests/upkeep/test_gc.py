"""Garbage is what no manifest refers to: all of it is found, nothing else is, and nothing young goes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner
from upkeep_builds import configuration

from weave_data.commands import gc as gc_command
from weave_data.errors import ConflictError, VerificationError
from weave_data.pipeline.runs import RunLog
from weave_data.records import canonical_json
from weave_data.shard import read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.tables import table_bytes
from weave_data.upkeep import collect_garbage, delete_garbage

DAY = 86_400


def files(output: Path) -> set[Path]:
    return {path for path in output.rglob("*") if path.is_file()}


def later() -> float:
    return time.time() + 2 * DAY


def test_a_finished_build_holds_no_garbage(woven: Path) -> None:
    report = collect_garbage(open_store(str(woven)), now=later())
    assert report.garbage == ()
    assert report.kept_bytes == sum(path.stat().st_size for path in files(woven))


def test_what_an_interrupted_build_left_is_garbage_and_exactly_that_goes(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    before = files(woven)
    rebuild(woven, "frames.quality=40", "recipes.l4.seed=8", "source.part_clips=9")
    store = open_store(str(woven))
    for recipe in ("l1", "l4"):  # as if it had stopped before it published
        fingerprint = read_manifest(store, recipe).fingerprint
        (woven / recipe / "manifests" / f"{fingerprint}.json").unlink()
        old = next(path for path in (woven / recipe / "manifests").iterdir() if not path.name.startswith("."))
        (woven / recipe / "manifest.json").write_bytes(old.read_bytes())
    report = collect_garbage(store, now=later())
    found = {woven / item.key for item in report.garbage}
    left = {
        path for path in files(woven) - before if "runs" not in path.parts and not path.name.startswith(".")
    }
    assert found == left
    kinds = {kind for kind, _, _ in report.by_kind()}
    assert kinds == {"shards", "frames", "vectors", "groups", "plans", "rejects", "catalogs"}
    assert report.num_bytes == sum(path.stat().st_size for path in left)
    sizes = [size for _, _, size in report.by_kind()]
    assert sizes == sorted(sizes, reverse=True)
    assert delete_garbage(store, report, now=later()) == len(left)
    assert before <= files(woven) | {path for path in before if "runs" in path.parts}
    assert not found & files(woven)
    verify_output(store)


def test_a_replaced_build_stays_until_it_is_given_up(woven: Path, rebuild: Callable[..., None]) -> None:
    rebuild(woven, "recipes.l4.seed=8", "recipes.l1.frames_per_sample=3")
    store = open_store(str(woven))
    assert collect_garbage(store, now=later()).garbage == ()
    report = collect_garbage(store, now=later(), superseded=True)
    assert {kind for kind, _, _ in report.by_kind()} >= {"shards", "manifests", "plans", "rejects"}
    delete_garbage(store, report, now=later())
    verify_output(store)
    assert collect_garbage(store, now=later(), superseded=True).garbage == ()


def test_frames_that_only_a_replaced_recipe_showed_go_layer_by_layer(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    tars = set((woven / "frames").rglob("*.tar"))
    rebuild(woven, "recipes.l1.frames_per_sample=7")
    more = set((woven / "frames").rglob("*.tar")) - tars
    assert more
    rebuild(woven)
    store = open_store(str(woven))
    report = collect_garbage(store, now=later(), superseded=True)
    delete_garbage(store, report, now=later())
    assert set((woven / "frames").rglob("*.tar")) & more == {
        tar for tar in more if tar.with_suffix(".quality.parquet").exists()
    }
    assert tars <= set((woven / "frames").rglob("*.tar"))
    verify_output(store)


def garbage(output: Path, **options: bool) -> set[tuple[str, str]]:
    report = collect_garbage(open_store(str(output)), now=later(), **options)
    return {(item.kind, item.key) for item in report.garbage}


def test_near_duplicates_stay_while_a_recipe_was_made_with_them(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    rebuild(woven, "filters.near_duplicates=0.9999")
    [used] = read_manifest(open_store(str(woven)), "l4").inputs["duplicates"]
    assert [path.name for path in (woven / "duplicates").iterdir()] == [used[0].partition("/")[2]]
    stray = woven / "duplicates" / f"{'0' * 32}.parquet"
    shutil.copy(woven / used[0], stray)
    assert garbage(woven) == {("duplicates", str(stray.relative_to(woven)))}
    rebuild(woven)
    gone = {key for kind, key in garbage(woven, superseded=True) if kind == "duplicates"}
    assert gone == {used[0], str(stray.relative_to(woven))}


def test_answers_stay_while_a_recipe_uses_one_of_their_results(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    def enriched(key: str, word: str) -> tuple[str, set[tuple[str, str]]]:
        clips = sorted((woven / "catalog").rglob("*-*.parquet"))
        ids = [name for path in clips for name in pq.read_table(path)["clip_id"].to_pylist()]
        data = table_bytes(pa.table({"clip_id": ids, "caption": [f"{word} {name}" for name in ids]}))
        names = [f"{key}/captions-{hashlib.sha256(data).hexdigest()[:16]}.parquet", f"{key}/0a/0abc.parquet"]
        for name in names:
            path = woven / "enrich" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(woven / "enrich" / names[0]), {("enrichments", f"enrich/{name}") for name in names}

    used, first = enriched("a" * 32, "new")
    _, second = enriched("b" * 32, "other")
    (woven / "enrich" / ("a" * 32) / "notes.txt").write_text("mine")
    assert garbage(woven) == first | second
    rebuild(woven, f"recipes.1.captions={{file: {used}}}")
    assert garbage(woven) == second
    report = collect_garbage(open_store(str(woven)), now=time.time())
    assert not {item.kind for item in report.garbage} & {"enrichments", "duplicates"}, "they are young"


def test_an_audit_stays_while_a_manifest_says_the_same(woven: Path) -> None:
    for path in (woven / "l4" / "manifest.json", *(woven / "l4" / "manifests").glob("*.json")):
        values = json.loads(path.read_text())
        values["float_stages"]["audit"] = {"verdict": "paired", "z_score": 9.5}
        path.write_bytes(canonical_json(values))
    (woven / "audits").mkdir()
    for name, said in (("a", values["float_stages"]["audit"]), ("b", {"verdict": "swapped"})):
        (woven / "audits" / f"{name * 32}.json").write_text(json.dumps(said))
    (woven / "audits" / f"{'c' * 32}.json").write_text("half")
    assert garbage(woven) == {("audits", f"audits/{name * 32}.json") for name in "bc"}


def test_what_is_young_is_left_alone(woven: Path) -> None:
    stray = woven / "l4" / "0123456789ab" / "train" / "epoch=0" / "shard-00000.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x" * 10)
    hidden = woven / "plans" / ".tmp-0123"
    hidden.write_bytes(b"y" * 7)
    store = open_store(str(woven))
    report = collect_garbage(store, now=time.time())
    assert (report.garbage, report.hidden, report.young, report.young_bytes) == ((), (), 1, 10)
    for path in (stray, hidden):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    report = collect_garbage(store, now=time.time())
    assert ([item.key for item in report.garbage], report.hidden) == (
        [str(stray.relative_to(woven))],
        (hidden,),
    )
    assert report.num_bytes == 17
    delete_garbage(store, report, now=time.time())
    assert not stray.exists()
    assert not hidden.exists()


def test_files_of_another_kind_are_never_touched(woven: Path) -> None:
    for name in ("notes.txt", "l4/notes.txt", "mine/x.parquet", "frames/README", "retries/1.json"):
        path = woven / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert collect_garbage(open_store(str(woven)), now=later()).garbage == ()


def test_nothing_is_deleted_while_a_build_runs(woven: Path, rendered: Path) -> None:
    store = open_store(str(woven))
    stray = woven / "groups" / "stray.parquet"
    stray.write_bytes(b"x")
    report = collect_garbage(store, now=later())
    log = RunLog.start(store, configuration(rendered, woven))
    with pytest.raises(ConflictError, match=rf"gc refused: run {log.run_id} on .* has not ended"):
        delete_garbage(store, report, now=time.time())
    assert stray.exists()
    log.finish("done", {})
    assert delete_garbage(store, report, now=time.time()) == 1


def test_an_output_without_a_manifest_is_not_emptied(woven: Path) -> None:
    for path in woven.glob("*/manifest.json"):
        path.unlink()
    with pytest.raises(VerificationError, match="no published recipe, so all of it would be garbage"):
        collect_garbage(open_store(str(woven)), now=later())


def test_the_command_deletes_only_when_told(woven: Path) -> None:
    stray = woven / "groups" / "stray.parquet"
    stray.write_bytes(b"x" * 1234)
    app = typer.Typer()
    gc_command.register(app)
    runner = CliRunner()
    os.utime(stray, (time.time() - 2 * DAY,) * 2)
    done = runner.invoke(app, [str(woven)])
    assert (done.exit_code, stray.exists()) == (0, True)
    assert "1,234 bytes that no manifest refers to" in done.output
    assert "1 objects deleted" in runner.invoke(app, [str(woven), "--yes", "--min-age", "1d"]).output
    assert not stray.exists()
    assert runner.invoke(app, [str(woven), "--min-age", "soon"]).exit_code == 2
