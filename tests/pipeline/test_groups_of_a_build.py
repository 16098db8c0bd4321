"""Rules for groups through a whole build: pages kept apart, centroids that stay."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from small_builds import settings

from weave_data.config import BuildConfig, load_config
from weave_data.errors import SourceError
from weave_data.pipeline import BuildOptions, build
from weave_data.shard import iter_rows, read_manifest
from weave_data.storage import open_store


def configure(source: Path, output: Path, **groups: object) -> BuildConfig:
    recipe = {
        "name": "l2",
        "strategy": "clustered",
        "clips_per_sample": 2,
        "frames_per_sample": 4,
        "shard_rows": 8,
        "row_group_rows": 4,
    }
    values = settings(str(source), str(output)) | {"recipes": [recipe], "groups": groups}
    return load_config(BuildConfig, values, origin="test")


def with_pages(rendered: Path, folder: Path, rows: slice) -> Path:
    """The rendered world's CSV with a page for each three clips, cut to some rows."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "videos").exists():
        (folder / "videos").symlink_to(rendered / "videos")
    with (rendered / "clips.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*clips[0], *({"page_dir"} - set(clips[0]))])
        writer.writeheader()
        writer.writerows([clip | {"page_dir": f"p{i // 3}"} for i, clip in enumerate(clips)][rows])
    return folder


def groups_of(output: Path) -> list[list[str]]:
    store = open_store(str(output))
    rows = iter_rows(store, read_manifest(store, "l2"))
    return [[clip.clip_id for clip in sample.clips] for sample in rows]


def test_clips_of_one_page_never_share_a_sample(rendered: Path, tmp_path: Path) -> None:
    source = with_pages(rendered, tmp_path / "source", slice(None))
    build(configure(source, tmp_path / "free"))
    build(configure(source, tmp_path / "apart", same_page="forbid"))
    with (source / "clips.csv").open(newline="") as file:
        page = {clip["videoid"]: clip["page_dir"] for clip in csv.DictReader(file)}

    def together(output: Path) -> int:
        return sum(page[a] == page[b] for a, b in groups_of(output))

    assert together(tmp_path / "apart") == 0
    assert len(groups_of(tmp_path / "apart")) == len(groups_of(tmp_path / "free")) == 13
    totals = read_manifest(open_store(str(tmp_path / "apart")), "l2").totals
    assert all(count.is_balanced for count in totals)


def test_a_grown_catalog_is_grouped_by_the_centroids_there_were(rendered: Path, tmp_path: Path) -> None:
    source = with_pages(rendered, tmp_path / "source", slice(16))
    build(configure(source, tmp_path / "w", centroids="frozen"))
    committed = {path: path.read_bytes() for path in (tmp_path / "w" / "groups").glob("centroids-*")}
    assert len(committed) == 1
    with_pages(rendered, tmp_path / "source", slice(None))
    build(configure(source, tmp_path / "w", centroids="frozen"), BuildOptions(replace=True))
    assert {path: path.read_bytes() for path in (tmp_path / "w" / "groups").glob("centroids-*")} == committed
    notes = json.loads((tmp_path / "w" / "l2" / "manifest.json").read_text())["float_stages"]["groups"]
    assert notes["drift"]["old"]["num_clips"] == 16
    assert notes["drift"]["new"]["num_clips"] == 26


def test_rules_that_leave_no_sample_are_said(rendered: Path, tmp_path: Path) -> None:
    source = with_pages(rendered, tmp_path / "source", slice(3))
    with pytest.raises(SourceError, match=r"recipes.l2: 3 clips give no sample .* groups.same_page"):
        build(configure(source, tmp_path / "w", same_page="forbid"))
