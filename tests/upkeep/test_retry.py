"""Refusals are taken back by reason, in numbered objects that never change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from weave_data.commands import retry as retry_command
from weave_data.errors import ConfigError
from weave_data.storage import open_store
from weave_data.upkeep import catalog_round, retry_clips, retry_identity, retry_rounds


@pytest.fixture(scope="module")
def refused(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with an empty file, two that are no videos, and one clip that is too short for l1."""
    from upkeep_builds import configuration

    from weave_data.pipeline import build

    folder = tmp_path_factory.mktemp("refused")
    source = Path(shutil.copytree(rendered, folder / "source"))
    videos = sorted((source / "videos").rglob("*.mp4"))
    videos[0].write_bytes(b"")
    for path in videos[1:3]:
        path.write_bytes(b"no video at all, but some text " * 20)
    build(configuration(source, folder / "woven", "rejects.max_fraction=0.5"))
    return folder / "woven"


@pytest.fixture
def output(refused: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(refused, tmp_path / "woven"))


def test_the_clips_of_a_reason_are_written_down_and_counted_by_round(output: Path) -> None:
    store = open_store(str(output))
    assert (retry_rounds(store), catalog_round(store), retry_identity(store)) == ({}, 0, None)
    first = retry_clips(store, reason="not_a_video")
    assert (first.key, first.num_clips, first.stages) == ("retries/1.json", 2, ("catalog", "decode"))
    rounds = retry_rounds(store)
    assert sorted(rounds.values()) == [1, 1]
    assert json.loads((output / "retries" / "1.json").read_text())["clip_ids"] == sorted(rounds)
    identity = retry_identity(store)
    assert retry_clips(store, reason="not_a_video").key == "retries/2.json"
    assert retry_rounds(store) == dict.fromkeys(rounds, 2)
    assert identity not in (None, retry_identity(store))
    assert catalog_round(store) == 2


def test_a_reason_of_the_listing_asks_for_a_new_listing_and_not_for_new_decoding(output: Path) -> None:
    store = open_store(str(output))
    found = retry_clips(store, reason="empty_file")
    assert (found.num_clips, found.stages) == (1, ("catalog",))
    assert "the source is listed again" in found.lines()[0]
    assert (retry_rounds(store), catalog_round(store)) == ({}, 1)


def test_a_reason_that_nobody_has_or_that_trying_cannot_change_is_refused(output: Path) -> None:
    store = open_store(str(output))
    with pytest.raises(ConfigError, match="'corrupt'; reasons to retry: empty_file, not_a_video"):
        retry_clips(store, reason="corrupt")
    with pytest.raises(ConfigError, match="too_short: is decided by a recipe"):
        retry_clips(store, reason="too_short")
    assert not (output / "retries").exists()


def test_the_command_says_what_to_run_next(output: Path, rebuild: Callable[..., None]) -> None:
    app = typer.Typer()
    retry_command.register(app)
    done = CliRunner().invoke(app, [str(output), "--reason", "not_a_video"])
    assert done.exit_code == 0
    assert "2 clips refused as not_a_video will be tried again (retries/1.json)" in done.output
    assert "next: weave-data build CONFIG.yaml --replace" in done.output
