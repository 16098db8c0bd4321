"""The paper's figures in small, whole: render, build, train, ask, compare, draw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from training_runs import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("tiny figures")]


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert "8 questions" in run(folder, str(ROOT / "experiments" / "tiny" / "render.py"), "build/tiny")
    return folder


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "figure",
    [
        "figure2",  # stages, seeds, plans: all that the others do but curves and clusters
        pytest.param("figure1", marks=pytest.mark.slow),
        pytest.param("figure3", marks=pytest.mark.slow),
    ],
)
def test_a_tiny_figure_runs_whole(rendered: Path, figure: str) -> None:
    file = str(ROOT / "experiments" / "tiny" / f"{figure}.yaml")
    said = run(rendered, "-m", "weave_train", "sweep", file, "--num-parallel", "2")
    output = rendered / "build" / "tiny" / figure
    assert f"# tiny-{figure}" in said
    outcome = json.loads((output / "table.json").read_text())
    assert outcome["missing"] == []
    for arm in outcome["arms"]:
        metric = arm["metrics"]["questions/frames/likelihood"]
        assert metric["questions"] == 8
        assert all(0 <= value <= 1 for value in metric["by_seed"].values())
        assert "questions/blind/likelihood" in arm["metrics"]
    for contrast in outcome["contrasts"]:
        assert contrast["questions"] in (4, 8)
        assert contrast["videos"] == 4
    with Image.open(output / "figure.png") as image:
        assert image.size == (840, 540)
    curves = {(point["arm"], point["step"]) for point in outcome["points"]}
    if figure == "figure1":
        assert curves == {("l1", 2), ("l1", 4), ("l4", 1)}
    if figure == "figure3":
        before = (output / "table.json").read_bytes()
        again = run(rendered, "-m", "weave_train", "sweep", file)
        assert "2 of 2 cells are done" in again
        assert (output / "table.json").read_bytes() == before
