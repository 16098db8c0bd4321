"""The build configuration is strict, and every problem is reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from weave_data.config import BuildConfig, load_build_config
from weave_data.errors import ConfigError

GOOD = """
source: {kind: webvid, catalog: clips.csv, videos: videos}
recipes:
  - {name: l1, strategy: single, frames_per_sample: 16}
  - {name: l4, strategy: clustered, clips_per_sample: 4, frames_per_sample: 16, seed: 7}
output: woven
"""


def load(tmp_path: Path, text: str = GOOD, overrides: list[str] | None = None) -> BuildConfig:
    path = tmp_path / "build.yaml"
    path.write_text(text, encoding="utf-8")
    return load_build_config(path, overrides or [])


def problems(tmp_path: Path, text: str = GOOD, overrides: list[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, overrides)
    return list(caught.value.problems)


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.frames.model_dump() == {
        "short_side_px": 336,
        "format": "jpeg",
        "quality": 85,
        "decoder": "pyav",
    }
    assert config.embedding.model_dump() == {
        "model": "ViT-B-32",
        "pretrained": "openai",
        "frames_per_clip": 4,
        "batch_size": 64,
        "precision": "bf16",
    }
    recipe = config.recipes[1]
    assert (recipe.shard_rows, recipe.row_group_rows, recipe.caption_join) == (1024, 16, "parity")
    assert recipe.prompt == "Describe what is happening in the video."
    assert (recipe.remainder, recipe.split.val_fraction, config.rejects.max_fraction) == ("drop", 0.0, 0.05)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("recipes.l4.seed=3", lambda c: c.recipes[1].seed == 3),
        ("recipes.1.seed=3", lambda c: c.recipes[1].seed == 3),
        ("rejects.max_fraction=1e-4", lambda c: c.rejects.max_fraction == 1e-4),
        ("recipes.l4.split.val_fraction=0.1", lambda c: c.recipes[1].split.val_fraction == 0.1),
        ("execution.num_cpus=null", lambda c: c.execution.num_cpus is None),
        ("source.part_clips=7", lambda c: c.source.part_clips == 7),
        ("recipes.l4.prompt=What happens?", lambda c: c.recipes[1].prompt == "What happens?"),
        ("embedding.pretrained=", lambda c: c.embedding.pretrained == ""),
    ],
)
def test_an_override_addresses_lists_by_index_or_name(tmp_path: Path, override: str, read: object) -> None:
    assert read(load(tmp_path, overrides=[override]))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("frames.quality=true", "frames.quality"),
        ("frames.quality=1.5", "frames.quality"),
        ("frames.quality=high", "frames.quality"),
        ("frames.qality=80", "did you mean 'quality'"),
        ("recipes.l4.strategy=clusterd", "did you mean 'clustered'"),
        ("recipes.l4.clips_per_sample=many", "recipes.l4.clips_per_sample: input should be a valid integer"),
        ("recipes.l4.clips_per_sample={4: -1}", "recipes.l4.clips_per_sample.4: input should be greater"),
        ("recipes.l4.strategy={given: 1, random: 1}", "can't be mixed with others"),
        ("recipes.l4.frames_per_clip=[8, 4, 2, 1]", "must be 4 positive numbers that add up"),
        ("recipes.l4.frame_policy=fps", "goes with frame_policy: fps"),
        ("recipes.l4.split={val_fraction: 0.1, val_last: 5}", "two rules"),
        ("recipes.l4.questions={file: q.json}", "give them a recipe with strategy: given"),
        ("filters.motion={min: 0.9, max: 0.1}", "no clip would be left"),
        ("recipes.l9.seed=1", "entries are l1, l4"),
        ("recipes.l4.clips_per_sample=3", "not a multiple of clips_per_sample 3"),
        ("recipes.l1.clips_per_sample=2", "strategy single takes clips_per_sample 1, got 2"),
        ("recipes.l4.clips_per_sample=1", "needs clips_per_sample of at least 2"),
        ("recipes.l4.name=frames", "taken by the output layout"),
        ("recipes.l4.name=card.md", "taken by the output layout"),
        ("recipes.l4.name=l1", "used twice"),
        ("recipes.l4.name=a/b", "use letters"),
        ("recipes.l4.row_group_rows=10", "not a multiple of row_group_rows"),
        ("execution.gpu=1", "did you mean 'gpus'"),
        ("embedding.precision=fp16", "embedding.precision"),
        ("colour=red", "colour: unknown setting"),
    ],
)
def test_a_wrong_setting_names_its_path_and_the_remedy(tmp_path: Path, override: str, words: str) -> None:
    assert any(words in problem for problem in problems(tmp_path, overrides=[override]))


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    text = GOOD.replace("kind: webvid", "kind: webvd").replace("output: woven", "outpt: woven")
    found = problems(tmp_path, text, ["frames.quality=0"])
    assert len(found) == 4  # kind, output missing, outpt unknown, quality
    assert {problem.split(":")[0] for problem in found} == {
        "source.kind",
        "output",
        "outpt",
        "frames.quality",
    }


@pytest.mark.parametrize("override", ["no_equals_sign", "=3", ".=3"])
def test_an_override_without_path_or_value_is_refused(tmp_path: Path, override: str) -> None:
    assert "dotted.path=value" in problems(tmp_path, overrides=[override])[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1, 2]", "expected a mapping"), ("a: [", "not valid YAML"), ("a: 1\na: 2", "not valid YAML")],
)
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)[0]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read the configuration"):
        load_build_config(tmp_path / "nowhere.yaml")


def test_semantic_settings_hold_no_location_and_nothing_about_execution(tmp_path: Path) -> None:
    config = load(tmp_path, overrides=["execution.num_cpus=5", "source.catalog=s3://secret/clips.csv"])
    text = str(config.semantic(config.recipes[1]))
    for word in ("secret", "woven", "num_cpus", "execution", "batch_size"):
        assert word not in text
    assert "embedding" not in config.semantic(config.recipes[0])


def test_a_setting_of_several_forms_is_reported_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, overrides=["recipes.l4.strategy=clusterd"])) == 1
