"""Every command of the README runs, on stand-ins for the bucket, the clip and the cluster."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from raycluster import ray_head
from servers import S3Server
from world import render_world

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 1200

pytestmark = [pytest.mark.server, pytest.mark.process, pytest.mark.xdist_group("readme")]


def shell_blocks() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    return [[line for line in block.splitlines() if line.strip()] for block in blocks]


def run(line: str, folder: Path) -> str:
    words = shlex.split(line)
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme-world")
    render_world(folder, num_clips=40, seed=3, size_px=(64, 80), seconds=2.0)
    return folder


def test_the_commands_of_your_bucket_your_gpus_run_as_written(
    s3: S3Server, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # an activated venv
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    bucket = s3.new_bucket()
    client = s3.client()
    for path in world.rglob("*.*"):
        client.upload_file(str(path), bucket, f"webvid/{path.relative_to(world)}")
    (tmp_path / "clip.mp4").write_bytes(next(world.rglob("*.mp4")).read_bytes())
    commands, submit, _ = shell_blocks()
    said = {line: run(line.replace("my-bucket", bucket), tmp_path) for line in commands}
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "runs" / "first" / "loss.png").exists()
    assert said[commands[-1]].strip(), "the model answered nothing at all"
    with ray_head(tmp_path, num_cpus=2) as head:
        (line,) = submit
        assert "nothing to do" in run(line.replace("http://127.0.0.1:8265", head.dashboard), tmp_path)


def test_a_folder_of_videos_is_built_as_written(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for path in world.rglob("*.mp4"):
        clip = tmp_path / "clips" / path.name
        clip.parent.mkdir(exist_ok=True)
        clip.write_bytes(path.read_bytes())
        clip.with_suffix(".txt").write_text(f"clip {path.stem} of a folder")
    *_, laptop = shell_blocks()
    said = [run(line, tmp_path) for line in laptop]
    assert "40 samples" in said[-1]
