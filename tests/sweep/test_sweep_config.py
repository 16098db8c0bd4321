"""A sweep's file: every problem at once, each with its path; arms and seeds become runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_builds import settings
from sweep_files import load, plain, write_sweep

from weave_data.config import load_build_config
from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.sweep import load_sweep


def problems(root: Path, values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(root, values)
    assert caught.value.origin == str(root / "sweep.yaml")
    return list(caught.value.problems)


def test_all_that_is_mistyped_is_said_at_once_with_its_path(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["seds"] = values.pop("seeds")
    values["arms"]["l1"]["recip"] = "x"
    values["arms"]["l4"]["axes"] = {"L": [1]}
    values["arms"]["l4"]["stages"] = {"train": {"skp": []}}
    values["contrasts"][0]["metrics"] = "x"
    found = problems(tmp_path, values)
    assert "seeds: required, not given" in found
    assert "seds: unknown setting (did you mean 'seeds'?)" in found
    assert "arms.l1.recip: unknown setting (did you mean 'recipe'?)" in found
    assert "arms.l4.stages.train.skp: unknown setting (known: flags)" in found
    assert "contrasts.all.metrics: unknown setting (did you mean 'metric'?)" in found
    assert any(line.startswith("arms.l4.axes.L: ") for line in found)


def test_names_that_lead_nowhere_are_said_at_once(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["seeds"] = [1, 1]
    values["stages"] = [{"name": "a", "starts_from": "b"}, {"name": "b"}]
    values["arms"]["l1"]["skip"] = ["a", "b"]
    values["arms"]["l4"]["stages"] = {"c": {"flags": {}}}
    values["contrasts"][0]["a"] = "l2"
    values["contrasts"][1]["metric"] = "videomme/frames/generated"
    values["contrasts"][1]["where"] = {"a type": "x"}
    values["metrics"] = ["likelihood"]
    values["figure"] = {"x": "kind", "y": "questions/frames/likelihood", "group": "l"}
    known = "samples, flops, supervised_tokens, L, kind"
    assert problems(tmp_path, values) == [
        "seeds: 1 is there twice; give each its own",
        "stages.a.starts_from: 'b' is no stage before it: it is the first; name one, or nothing",
        "arms.l1.skip: leaves nothing to train; keep a stage",
        "arms.l4.stages: 'c' is no stage: a, b",
        "contrasts.all.a: there is no arm 'l2': l1, l4",
        "contrasts.order.metric: evaluate has no 'videomme': questions",
        "contrasts.order.where.a type: 'x': a tag is a word; neither it nor its value holds '='",
        "metrics.0: 'likelihood' is no EVALUATION/MODE/SCORE TAG=VALUE..., as questions/frames/likelihood",
        f"figure.x: 'kind' is not a number in the axes of every arm; known: {known}",
        "figure.group: 'l' is not among the axes of every arm; known: arm, L, kind",
    ]


def test_flags_of_every_run_are_checked_before_any_work(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["train"]["max_step"] = 3
    values["train"]["seed"] = 4
    values["arms"]["l1"]["flags"] = {"zero_stage": 7, "dataset.type": "webvid"}
    recipe = values["arms"]["l1"]["recipe"]
    assert problems(tmp_path, values) == [
        "every arm, stage train: seed: is the sweep's own flag: list seeds",
        f"arms.l1, stage train: dataset.type: contradicts recipe {recipe!r}",
        "arms.l1, stage train: zero_stage: input should be less than or equal to 3, got 7",
        "every arm, stage train: max_step: unknown setting (did you mean 'max_steps'?)",
    ]


def test_a_recipe_that_no_build_has_is_named(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["arms"]["l4"]["recipe"] = "l9"
    (tmp_path / "build.yaml").write_text(json.dumps(settings("clips", "woven")))
    values["build"] = {"config": "build.yaml"}
    assert problems(tmp_path, values) == [
        "arms.l4.recipe: 'l9' is no recipe of the builds (l1, l4), and no URI of a manifest"
    ]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read the sweep"):
        load_sweep(tmp_path / "none.yaml")
    values = plain(tmp_path)
    values["build"] = {"config": "none.yaml"}
    assert "can't read the configuration" in problems(tmp_path, values)[0]


def test_cells_are_arms_times_seeds_and_words_say_what_their_configurations_say(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["train"]["trainable"] = [{"match": "projector.*", "freeze": True}]
    values["train"]["trackers"] = ["jsonl"]
    values["train"]["model.finetune_learning_rate"] = 1
    sweep = load(tmp_path, values)
    assert [cell.name for cell in sweep.cells] == ["l1-s1", "l1-s2", "l1-s5", "l4-s1", "l4-s2", "l4-s5"]
    for cell in sweep.cells:
        (stage,) = cell.stages
        flags = parse_flags(stage.words, model=PretrainConfig)
        assert load_pretrain_config(flags) == stage.config
        assert stage.config.seed == cell.seed
        assert stage.config.max_steps == (4 if cell.arm == "l4" else 3)
        assert stage.run_dir == tmp_path / "out" / "cells" / cell.name / "train"
    assert len({cell.directory for cell in sweep.cells}) == 6


def test_a_stage_begins_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    values = plain(tmp_path)
    shared = values["arms"]["l1"]["recipe"]
    values["stages"] = [
        {"name": "align", "flags": {"stage": "align", "model.arch_specifier": "gelu-mlp"}},
        {"name": "woven", "flags": {"model.arch_specifier": "gelu-mlp"}},
        {"name": "qa", "recipe": shared, "flags": {"max_steps": 1}},
        {"name": "other", "recipe": shared, "starts_from": "woven"},
        {"name": "fresh", "recipe": shared, "starts_from": "nothing"},
    ]
    values["arms"]["none"] = {"skip": ["align", "woven", "other"], "axes": {"L": 1, "kind": "none"}}
    sweep = load(tmp_path, values)
    cell = sweep.cells[0]
    align, woven, qa, other, fresh = (stage.config for stage in cell.stages)
    assert align.pretrained_checkpoint is None
    assert woven.pretrained_checkpoint == str(cell.directory / "align")
    assert woven.model.init_from_model is None
    assert qa.model.init_from_model == other.model.init_from_model == str(cell.directory / "woven")
    assert fresh.model.init_from_model is None
    assert [stage.name for stage in sweep.cells[-1].stages] == ["qa", "fresh"]
    assert sweep.cells[-1].stages[0].config.model.init_from_model is None
    l4 = sweep.cells[3]
    assert [stage.config.max_steps for stage in l4.stages][:3] == [4, 4, 1]  # an arm's flags are its recipe's


def test_each_cell_has_checkpoints_of_its_own_in_a_bucket(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["train"]["checkpoint"] = {"uri": "s3://bucket/sweep/"}
    uris = {cell.last.config.checkpoint.uri for cell in load(tmp_path, values).cells}
    assert "s3://bucket/sweep/l4-s5/train" in uris
    assert len(uris) == 6


def test_one_build_weaves_recipes_of_arms_for_each_seed(tmp_path: Path) -> None:
    values = plain(tmp_path)
    (tmp_path / "build.yaml").write_text(json.dumps(settings("clips", "woven")))
    values["build"] = {"config": "build.yaml", "set": {"output": "elsewhere", "recipes.l4.seed": 3}}
    values["arms"] = {"l4": {"recipe": "l4", "axes": {"L": 4, "kind": "woven"}}}
    values["contrasts"] = []
    values["stages"] = [{"name": "woven"}, {"name": "qa", "recipe": "l1"}]
    shared = load(tmp_path, values)
    assert [recipe.name for recipe in shared.builds[0].config.recipes] == ["l1", "l4"]
    assert {cell.stages[0].config.dataset.manifest for cell in shared.cells} == {"elsewhere/l4/manifest.json"}
    values["build"]["plans"] = "per-seed"
    sweep = load(tmp_path, values)
    (build,) = sweep.builds
    build.write()
    again = load_build_config(build.path)
    assert {recipe.name: recipe.seed for recipe in again.recipes} == {
        "l1": 7,
        "l4-s1": 1,
        "l4-s2": 2,
        "l4-s5": 5,
    }
    assert again.output == "elsewhere"
    assert again.recipes[1].model_copy(update={"name": "l4", "seed": 3}) == shared.builds[0].config.recipes[1]
    assert [cell.stages[0].config.dataset.manifest for cell in sweep.cells] == [
        f"elsewhere/l4-s{seed}/manifest.json" for seed in (1, 2, 5)
    ]
    assert {cell.last.config.dataset.manifest for cell in sweep.cells} == {"elsewhere/l1/manifest.json"}


def test_a_name_may_not_lead_out_of_the_output(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["arms"]["../x"] = values["arms"]["l1"]
    assert "use letters, digits" in problems(tmp_path, values)[0]
    write_sweep(tmp_path, plain(tmp_path))
