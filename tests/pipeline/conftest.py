"""Builds of a small rendered world."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import NUM_CLIPS, MakeConfig, settings
from world import render_world

from weave_data.config import BuildConfig, load_config, parse_overrides


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with clips.csv and videos/: 26 clips of one second."""
    folder = tmp_path_factory.mktemp("rendered")
    render_world(folder, num_clips=NUM_CLIPS, seed=5, size_px=(64, 80), seconds=1.5)
    return folder


@pytest.fixture
def make_config(rendered: Path, tmp_path: Path) -> MakeConfig:
    """Configuration of the rendered world, `a.b=value` overrides on top."""

    def make(*overrides: str, source: str | Path = rendered, output: str | Path | None = None) -> BuildConfig:
        values = settings(str(source), str(output or tmp_path / "woven"))
        return load_config(BuildConfig, values, overrides=parse_overrides(overrides), origin="test")

    return make
