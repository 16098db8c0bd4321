"""Small finished builds for the commands that look after an output."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_builds import NUM_CLIPS
from upkeep_builds import configuration
from world import render_world

from weave_data.pipeline import BuildOptions, build

MakeBuild = Callable[..., Path]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with clips.csv and videos/: 26 clips."""
    folder = tmp_path_factory.mktemp("rendered")
    render_world(folder, num_clips=NUM_CLIPS, seed=5, size_px=(64, 80), seconds=1.5)
    return folder


@pytest.fixture(scope="session")
def pristine(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build that no test may change."""
    output = tmp_path_factory.mktemp("pristine") / "woven"
    build(configuration(rendered, output))
    return output


@pytest.fixture
def woven(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the finished build, to do with as a test likes."""
    return Path(shutil.copytree(pristine, tmp_path / "woven"))


@pytest.fixture
def rebuild(rendered: Path) -> Callable[..., None]:
    """Build again into an output, with overrides."""

    def run(output: Path | str, *overrides: str, source: Path | None = None, **extra: Any) -> None:
        build(configuration(source or rendered, output, *overrides, **extra), BuildOptions(replace=True))

    return run
