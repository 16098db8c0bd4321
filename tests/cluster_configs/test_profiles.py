"""Profiles load as a run and a build load them; a rank keeps what the README says."""

from __future__ import annotations

import re

import pytest
import torch
from published_shapes import FOLDER, profile, published_model

from weave_data.config import load_build_config
from weave_train.engine.model_states import model_states
from weave_train.launch import Launch
from weave_train.models.context import check_context
from weave_train.train.prepare import engine_settings
from weave_train.train.run_directory import model_settings

RANKS = {"one-gpu": 1, "eight-gpus": 8, "four-by-eight-gpus": 32}
PROFILES = sorted(path.name for path in (FOLDER / "profiles").iterdir())
README = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DeepSpeed file is named from the checkout."""
    monkeypatch.chdir(FOLDER.parent)


def test_every_number_of_gpus_has_a_profile() -> None:
    assert sorted(RANKS) == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_a_build_loads(name: str) -> None:
    config = load_build_config(FOLDER / "profiles" / name / "build.yaml", [])
    (recipe,) = config.recipes
    trained = profile(name).dataset.manifest
    assert trained == f"{config.output}/{recipe.name}/manifest.json"
    assert profile(name).model.num_frames == recipe.frames_per_sample
    assert config.execution.gpus > 0


@pytest.mark.parametrize("name", PROFILES)
def test_a_run_loads_and_its_rows_fit(name: str) -> None:
    config = profile(name)
    check_context(model_settings(config, {}), num_frames=config.model.num_frames)
    assert config.num_ranks in (None, RANKS[name])
    settings = engine_settings(config, Launch(0, RANKS[name], 0, torch.device("cpu")))
    rows = settings.micro_batch_rows * settings.micro_steps * RANKS[name]
    assert rows == config.hyper.global_batch_size


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_rank_holds_is_what_the_readme_says(name: str) -> None:
    config = profile(name)
    vlm = published_model(config)
    settings = engine_settings(config, Launch(0, RANKS[name], 0, torch.device("cpu")))
    states = model_states(vlm.core, settings, world_size=RANKS[name])
    assert states.on_host == 0
    tower = 2 * sum(value.numel() for value in vlm.tower.parameters())
    held = states.kept + states.bucket + states.gathered + tower
    said = re.search(rf"^\| `{name}` \|.*\| (\d+) GB \|", README, re.M)
    assert said is not None
    assert int(said[1]) == round(held / 1e9)
    assert held < 60e9
