"""What `weave-data retry` and `remove` write down reaches the next build."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest
from small_builds import settings

from weave_data.config import BuildConfig, load_config
from weave_data.errors import ConflictError
from weave_data.pipeline import BuildOptions, build
from weave_data.shard import iter_rows, read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.upkeep import remove_clips, retry_clips


def clips_of(output: Path) -> set[str]:
    store = open_store(str(output))
    return {clip.clip_id for row in iter_rows(store, read_manifest(store, "l1")) for clip in row.clips}


def configure(source: Path, output: Path) -> BuildConfig:
    values = settings(str(source), str(output)) | {"rejects": {"max_fraction": 0.5}}
    return load_config(BuildConfig, values, origin="test")


def test_a_mended_clip_is_tried_again_and_woven(rendered: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(rendered, source)
    cut, gone = sorted(source.rglob("*.mp4"))[:2]
    whole = {path: path.read_bytes() for path in (cut, gone)}
    cut.write_bytes(whole[cut][:-400])
    gone.unlink()
    config = configure(source, tmp_path / "w")
    build(config)
    assert {cut.stem, gone.stem} & clips_of(tmp_path / "w") == set()
    for path, data in whole.items():
        path.write_bytes(data)
    store = open_store(str(tmp_path / "w"))
    retry_clips(store, reason="truncated")
    with pytest.raises(ConflictError, match="use --replace"):
        build(config)
    build(config, BuildOptions(replace=True))
    assert {cut.stem, gone.stem} <= clips_of(tmp_path / "w")
    verify_output(store)
    assert build(config).files_written == 0


def test_a_clip_that_was_taken_down_stays_out_of_later_builds(rendered: Path, tmp_path: Path) -> None:
    config = configure(rendered, tmp_path / "w")
    build(config)
    victim = sorted(clips_of(tmp_path / "w"))[3]
    store = open_store(str(tmp_path / "w"))
    remove_clips(store, [victim], now=time.time() + 3600)
    assert victim not in clips_of(tmp_path / "w")
    assert build(config).files_written == 0
    shutil.rmtree(tmp_path / "w" / "l1")
    build(config)
    assert victim not in clips_of(tmp_path / "w")
    verify_output(store)
    assert hashlib.sha256(victim.encode()).hexdigest() in "".join(
        path.read_text() for path in (tmp_path / "w" / "removed").iterdir()
    )
