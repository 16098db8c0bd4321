"""The page of a real small build, made from the store alone."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from small_builds import settings
from typer import Typer
from typer.testing import CliRunner
from world import render_world

from weave_data.commands.report import register
from weave_data.config import BuildConfig, load_config
from weave_data.pipeline import build
from weave_data.report import publish_report
from weave_data.storage import open_store


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    render_world(root / "source", num_clips=26, seed=5, size_px=(64, 80), seconds=1.5)
    table = root / "source" / "clips.csv"
    rows = list(csv.DictReader(table.open(newline="")))
    column = "name" if "name" in rows[0] else "caption"
    rows[0][column] = f"<script>alert(1)</script> {rows[0][column]}"
    rows[1][column] = " "
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    video = sorted((root / "source" / "videos").rglob("*.mp4"))[5]
    video.write_bytes(video.read_bytes()[:900])
    values = settings(str(root / "source"), str(root / "woven"))
    values["rejects"] = {"max_fraction": 0.5}
    values["filters"] = {"motion": {"min": 0.01}}
    build(load_config(BuildConfig, values, origin="test"))
    return root / "woven"


def test_the_page_of_a_build_shows_groups_measurements_and_refused_clips(built: Path) -> None:
    text = publish_report(open_store(str(built)))
    assert (built / "report.html").read_text() == text
    assert len(text) < 6_000_000
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert re.search(r"l4: 0\.\d+ together, -?\d\.\d+ at random", text)
    for reason in ("empty_caption", "truncated"):
        assert f"<code>{reason}</code>" in text
    assert "motion.min: 0.01" in text
    assert "<b>sharpness</b>" in text
    assert "not given" in text
    assert "| not given | 25 |" in (built / "card.md").read_text()


def test_the_command_writes_the_same_page_elsewhere(built: Path, tmp_path: Path) -> None:
    app = Typer()
    register(app)
    app.command(name="other")(lambda: None)
    published = publish_report(open_store(str(built)))
    before = sorted(path for path in built.rglob("*") if path.is_file())
    target = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(built), "--to", str(target)])
    assert done.exit_code == 0, done.output
    assert target.read_text() == published
    assert sorted(path for path in built.rglob("*") if path.is_file()) == before
    missing = CliRunner().invoke(app, ["report", str(built), "--to", str(tmp_path / "no" / "page.html")])
    assert missing.exit_code == 2
