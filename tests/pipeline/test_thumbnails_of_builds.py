"""Vectors of `embedding.model: none`: made by the decode tasks, the same as actors make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_builds import MakeConfig

from weave_data.embed.thumbnail import ThumbnailEmbedder
from weave_data.execute import InProcessExecutor, Step
from weave_data.pipeline import BuildOptions, build


class NotingExecutor(InProcessExecutor):
    """Notes which steps had actors behind them."""

    def __init__(self) -> None:
        self.had_actors: dict[str, bool] = {}

    def run(self, step: Step) -> Iterator[Any]:
        self.had_actors[step.name] = step.then is not None
        yield from super().run(step)


def files_of(output: Path, *folders: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes()
        for folder in folders
        for path in sorted((output / folder).rglob("*.*"))
    }


def test_thumbnails_need_no_actors_and_are_what_actors_make(make_config: MakeConfig, tmp_path: Path) -> None:
    here, behind = NotingExecutor(), NotingExecutor()
    build(make_config(output=tmp_path / "here"), executor=here)
    build(make_config("execution.gpus=1", output=tmp_path / "behind"), executor=behind)
    assert here.had_actors["decode"] is False
    assert behind.had_actors["decode"] is True
    found = files_of(tmp_path / "here", "embeddings", "frames", "l1", "l4")
    assert sum(name.startswith("embeddings/") for name in found) == 4  # 26 clips in parts of 7
    assert found == files_of(tmp_path / "behind", "embeddings", "frames", "l1", "l4")


def test_thumbnails_that_are_there_are_not_made_again(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(make_config())

    def refuse(*_: object) -> None:
        raise AssertionError("a thumbnail was made again")

    monkeypatch.setattr(ThumbnailEmbedder, "embed", refuse)
    result = build(make_config("recipes.0.seed=9"), BuildOptions(replace=True))
    assert [recipe.is_new for recipe in result.recipes] == [True, False]
