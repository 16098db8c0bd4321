"""Blocks of docs/inference.md run as they are written there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from test_loading import write_run
from test_serve import MODEL, client, llama, server  # noqa: F401  fixtures
from test_video import render

from weave_train.cli import app
from weave_train.models.model import VideoLanguageModel

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inference.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    render(tmp_path / "clip.mp4", 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_a_command_is_one(line: str) -> None:
    program, name, *words = shlex.split(line)
    assert program == "weave-train"
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(program, words)


def test_the_program_in_python_runs(
    place: Path, vlm: VideoLanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(vlm, place / "runs" / "first")
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out


@pytest.mark.process
def test_the_client_is_answered(
    place: Path,
    server: tuple[str, Any],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = blocks("python")[1].replace("http://127.0.0.1:8000", server[0]).replace('"first"', f'"{MODEL}"')
    exec(program, {})
    assert capsys.readouterr().out.strip()
