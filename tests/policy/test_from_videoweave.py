"""Commands, flags and recipes of docs/from-videoweave.md are accepted as they are written there."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from weave_data.config import BuildConfig, load_config, read_yaml
from weave_train.config import DATASET_IDS, PretrainConfig, load_pretrain_config, parse_flags
from weave_train.models.context import check_context
from weave_train.towers import num_visual_tokens
from weave_train.train.run_directory import model_settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "from-videoweave.md").read_text(encoding="utf-8")
BASE = ["--model.type", "videoweave-l8", "--dataset.manifest", "s3://my-bucket/woven/l8/manifest.json"]
NOT_THERE = {"--val_dataset.eval_interval", "--val_dataset.lmms_eval_list"}
"""Named as missing."""
OF_EXPORT = {"--format hf"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def commands() -> list[str]:
    """Lines of shell blocks, and commands inside of sentences and tables."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    return lines + re.findall(r"`(weave-(?:data|train) [^`]+)`", PAGE)


def flags() -> list[str]:
    """Spans of flags, without the wildcards: `--model.*` is any."""
    spans = re.findall(r"`(--[a-z][^`]*)`", PAGE)
    return sorted({span for span in spans if "*" not in span and span not in NOT_THERE | OF_EXPORT})


def load(words: list[str]) -> PretrainConfig:
    return load_pretrain_config(parse_flags(words, model=PretrainConfig))


def fit_into_context(config: PretrainConfig) -> None:
    """T frames and a usual text are within `llm_max_length`, and that within the model's positions."""
    settings = model_settings(config, {})
    check_context(settings, num_frames=config.model.num_frames)
    assert settings.llm_max_length - num_visual_tokens(config.model.num_frames, settings) >= 1024


def parse(program: str, words: list[str]) -> None:
    """As the program would, without doing anything."""
    from weave_data.cli import app as data_app
    from weave_train.cli import app as train_app

    command: Any = typer.main.get_command(data_app if program == "weave-data" else train_app)
    while hasattr(command, "commands"):
        assert words, f"{program}: a command is missing"
        assert words[0] in command.commands, f"{program} has no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(program, list(words))


def test_there_is_something_to_check() -> None:
    assert len(commands()) > 25
    assert len(flags()) > 25


@pytest.mark.parametrize("line", commands())
def test_a_command_is_one(line: str) -> None:
    program, *words = shlex.split(line)
    parse(program, words)
    if words[0] == "pretrain":
        fit_into_context(load(words[1:]))


@pytest.mark.parametrize("span", flags())
def test_a_flag_is_one(span: str) -> None:
    words = shlex.split(span)
    if len(words) == 1:
        current: Any = PretrainConfig
        for step in words[0].removeprefix("--").split("."):
            assert step in current.model_fields, span
            current = current.model_fields[step].annotation
        return
    if "wandb" in words and importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    config = load([*BASE, *words])
    if "num_frames" in span:
        fit_into_context(config)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_configuration_is_one(text: str) -> None:
    config = load_config(BuildConfig, read_yaml(text, origin="page"), origin="page")
    assert {recipe.name for recipe in config.recipes} >= {"random-l8", "clustered-l8", "qna"}


def test_each_figure_trains_each_preset_on_the_recipe_of_its_l() -> None:
    grid = ROOT / "examples" / "paper-grid.yaml"
    config = load_config(BuildConfig, read_yaml(grid.read_text(encoding="utf-8"), origin="grid"), origin="g")
    clips = {recipe.name: recipe.clips_per_sample for recipe in config.recipes}
    found = re.findall(r"--model\.type videoweave-l(\d+) --dataset\.manifest \S*/paper-grid/([^/]+)/", PAGE)
    assert sorted(recipe for _, recipe in found) == sorted(clips)
    assert all(clips[recipe] == int(number) for number, recipe in found)
    frames = {recipe.frames_per_sample for recipe in config.recipes}
    assert frames == {load([*BASE]).model.num_frames}


def test_a_figures_runs_save_ten_times() -> None:
    for line in commands():
        number = re.search(r"videoweave-l(\d+) .*/fig1-.*--save_every_steps (\d+)", line)
        if number:
            steps = 160_000 // int(number[1]) // 2
            assert steps // int(number[2]) == 10


def test_every_data_set_id_is_on_the_page() -> None:
    assert all(f"| `{dataset_id}` |" in PAGE for dataset_id in DATASET_IDS)
