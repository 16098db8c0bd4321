"""Taken down means: in no byte of the output, and the data set is whole without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from servers import S3Server
from typer.testing import CliRunner
from upkeep_builds import configuration

from weave_data.commands import remove as remove_command
from weave_data.errors import ConfigError, ConflictError, VerificationError
from weave_data.pipeline.runs import RunLog
from weave_data.shard import iter_rows, read_manifest, verify_output
from weave_data.storage import LocalStore, S3Store, open_store
from weave_data.tables import sha256_hex
from weave_data.upkeep import find_removal, read_runs, remove_clips, removed_ids

NOW = 4e9  # long after every run


def every_text(output: Path) -> Iterator[tuple[Path, str]]:
    """Every byte below an output, hidden files too; Parquet also as its decompressed rows and metadata."""
    for path in output.rglob("*"):
        if path.is_file():
            yield path, str(path.relative_to(output)) + path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                yield path, f"{table.schema.metadata}{table.to_pylist()}"


def holding(output: Path, names: list[str]) -> set[Path]:
    return {path for path, text in every_text(output) for name in names if name in text}


def some_clips(output: Path) -> list[str]:
    """Two clips of one sample of l4, and one that only l1 shows."""
    store = open_store(str(output), readonly=True)
    woven = [[c.clip_id for c in s.clips] for s in iter_rows(store, read_manifest(store, "l4"))]
    single = {s.clips[0].clip_id for s in iter_rows(store, read_manifest(store, "l1"))}
    return [*woven[1][:2], min(single - {name for clips in woven for name in clips})]


def test_no_byte_holds_the_clips_and_everything_else_stays(woven: Path) -> None:
    store = open_store(str(woven))
    clips = some_clips(woven)
    before = {r: list(iter_rows(store, read_manifest(store, r))) for r in ("l1", "l4")}
    assert len(holding(woven, clips)) > 10
    removal = remove_clips(store, clips, now=NOW)
    assert holding(woven, clips) == set()
    report = verify_output(store)
    assert report.notes == ()
    for recipe in ("l1", "l4"):
        kept = [s for s in before[recipe] if not {c.clip_id for c in s.clips} & set(clips)]
        assert list(iter_rows(store, read_manifest(store, recipe))) == kept
    counts = {recipe.recipe: (recipe.samples, recipe.beside) for recipe in removal.recipes}
    assert counts == {"l1": (3, 0), "l4": (1, 2)}
    last = read_manifest(store, "l4").totals[-1]
    assert (last.stage, last.num_in, last.num_out) == ("remove", 24, 20)
    assert last.filtered == {"removed": 2, "beside_removed": 2}
    assert removed_ids(store) == {sha256_hex(name.encode()) for name in clips}


@pytest.mark.server
def test_versions_that_a_bucket_keeps_are_purged_last(
    woven: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, client = s3.new_bucket(), s3.client()
    for key, data in shown_files(woven).items():
        client.put_object(Bucket=bucket, Key=f"out/{key}", Body=data)
    clips, held = some_clips(woven), list[bool]()

    def note(store: S3Store) -> int:
        held.extend(clip.encode() in store.get(info.key) for info in store.list("") for clip in clips)
        return 0

    monkeypatch.setattr(S3Store, "purge_versions", note)
    remove_clips(open_store(f"s3://{bucket}/out"), clips, now=NOW)
    assert held
    assert not any(held)


def test_shards_without_the_clips_are_not_written_again(woven: Path) -> None:
    store = open_store(str(woven))
    untouched = woven / read_manifest(store, "l4").shards[1].path
    seen = untouched.stat()
    clips = [c.clip_id for c in next(iter_rows(store, read_manifest(store, "l4"))).clips]
    removal = remove_clips(store, clips[:1], now=NOW)
    assert [(r.shards, r.all_shards) for r in removal.recipes if r.recipe == "l4"] == [(1, 2)]
    assert (untouched.stat().st_ino, untouched.stat().st_mtime_ns) == (seen.st_ino, seen.st_mtime_ns)
    assert read_manifest(store, "l4").shards[1].path == str(untouched.relative_to(woven))
    verify_output(store)


def shown_files(output: Path) -> dict[str, bytes]:
    """Every file that a listing shows, by name."""
    shown = open_store(str(output), readonly=True).list("")
    return {info.key: (output / info.key).read_bytes() for info in shown}


class StoppingStore(LocalStore):
    """Dies at the n-th change of the store."""

    changes_left = 0

    def put_new(self, *args: Any, **options: Any) -> Any:
        self._count()
        return super().put_new(*args, **options)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def replace(self, *args: Any, **options: Any) -> None:
        self._count()
        super().replace(*args, **options)

    def _count(self) -> None:
        StoppingStore.changes_left -= 1
        if StoppingStore.changes_left < 0:
            raise KeyboardInterrupt


def test_a_removal_that_was_stopped_anywhere_is_finished_by_the_same_call(
    woven: Path, tmp_path: Path
) -> None:
    clips = some_clips(woven)
    whole = Path(shutil.copytree(woven, tmp_path / "whole"))
    remove_clips(open_store(str(whole)), clips, now=NOW)
    expected = shown_files(whole)
    changes = 0
    for changes in range(2, 400, 9):
        copy = Path(shutil.copytree(woven, tmp_path / f"stopped-{changes}"))
        StoppingStore.changes_left = changes
        try:
            remove_clips(StoppingStore(copy), clips, now=NOW)
        except KeyboardInterrupt:
            remove_clips(open_store(str(copy)), clips, now=NOW)
        else:
            break
        assert holding(copy, clips) == set()
        assert shown_files(copy) == expected
        verify_output(open_store(str(copy)), quick=True)
        shutil.rmtree(copy)
    assert changes > 30, "the removal was never stopped"


def test_a_second_removal_follows_the_first(woven: Path) -> None:
    store = open_store(str(woven))
    first, second, third = some_clips(woven)
    remove_clips(store, [first], now=NOW)
    remove_clips(store, [second, third], now=NOW)
    verify_output(store)
    assert holding(woven, [first, second, third]) == set()
    assert len(read_manifest(store, "l4").inputs["removed"]["of"]) == 2
    assert len(removed_ids(store)) == 3


def test_replaced_builds_and_unfinished_files_go_with_the_clips(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    clips = some_clips(woven)
    rebuild(woven, "recipes.l4.seed=8")
    tar = sorted((woven / "frames").rglob("*.tar"))[0]
    (tar.parent / "0123456789ab.tar").write_bytes(tar.read_bytes())
    (tar.parent / ".tmp-01").write_bytes(tar.read_bytes())
    for name in ("audits/a.json", "enrich/b.json", "runs/c/notes.json", "report.html"):
        path = woven / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"clip": "{clips[0]}"}}')
    store = open_store(str(woven))
    remove_clips(store, clips, now=NOW)
    assert holding(woven, clips) == set()
    verify_output(store)


def test_a_recipe_may_lose_all_its_samples(woven: Path) -> None:
    store = open_store(str(woven))
    clips = [s.clips[0].clip_id for s in iter_rows(store, read_manifest(store, "l4"))]
    remove_clips(store, clips, now=NOW)
    assert read_manifest(store, "l4").shards == ()
    assert holding(woven, clips) == set()
    verify_output(store)


def test_saying_what_would_be_done_changes_nothing(woven: Path) -> None:
    before = {path: path.read_bytes() for path in woven.rglob("*") if path.is_file()}
    found = find_removal(open_store(str(woven), readonly=True), some_clips(woven))
    assert found.lines()[1].startswith("l4: 1 samples dropped, 2 other clips with them; 1 of 2 shards")
    assert {path: path.read_bytes() for path in woven.rglob("*") if path.is_file()} == before


def test_a_file_that_is_not_ours_and_names_a_clip_is_said(woven: Path) -> None:
    clips = some_clips(woven)
    (woven / "notes.txt").write_text(f"my favourite is {clips[0]}")
    with pytest.raises(VerificationError, match=r"1 objects that weave_data did not write.*notes\.txt"):
        remove_clips(open_store(str(woven)), clips, now=NOW)
    assert holding(woven, clips) == {woven / "notes.txt"}


def test_nothing_is_taken_from_under_a_running_build(woven: Path, rendered: Path) -> None:
    store = open_store(str(woven))
    log = RunLog.start(store, configuration(rendered, woven))
    seen = read_runs(store)[-1].last_seen
    with pytest.raises(ConflictError, match="remove refused: run"):
        remove_clips(store, ["1"], now=seen + 1)
    log.finish("done", {})
    assert not (woven / "removed").exists()
    with pytest.raises(ConfigError, match="names no clip"):
        remove_clips(store, [], now=NOW)


def test_the_command_takes_down_only_when_told(woven: Path, tmp_path: Path) -> None:
    clips = some_clips(woven)
    file = tmp_path / "clips.txt"
    file.write_text("\n".join([*clips, ""]))
    app = typer.Typer()
    remove_command.register(app)
    runner = CliRunner()
    done = runner.invoke(app, [str(woven), "--clips", str(file)])
    assert (done.exit_code, "--yes takes them down" in done.output) == (0, True)
    assert holding(woven, clips)
    done = runner.invoke(app, [str(woven), "--clips", str(file), "--yes"])
    assert done.exit_code == 0, done.output
    assert not holding(woven, clips)
    assert runner.invoke(app, [str(woven), "--clips", str(tmp_path / "no.txt")]).exit_code == 2
    assert json.loads((woven / "l4" / "manifest.json").read_text())["inputs"]["removed"]["of"]
