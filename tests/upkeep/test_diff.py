"""Two outputs, or two builds of one, are told apart by settings, counts and samples."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import typer
from typer.testing import CliRunner

from weave_data.commands import diff as diff_command
from weave_data.shard import read_manifest
from weave_data.storage import open_store
from weave_data.upkeep import diff_outputs


def run_diff(*words: str | Path) -> tuple[int, str]:
    app = typer.Typer()
    diff_command.register(app)
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output


def test_an_output_is_equal_to_its_copy_and_the_exit_code_says_so(pristine: Path, woven: Path) -> None:
    found = diff_outputs(str(pristine), str(woven))
    assert found.is_equal
    assert [recipe.same for recipe in found.recipes] == [26, 6]
    code, said = run_diff(pristine, woven)
    assert code == 0
    assert "l4: equal, 6 samples" in said


def test_another_prompt_changes_the_text_of_every_sample(
    pristine: Path, woven: Path, rebuild: Callable[..., None]
) -> None:
    rebuild(woven, "recipes.l4.prompt=What happens?")
    found = diff_outputs(str(pristine), str(woven), recipe="l4").recipes[0]
    assert found.settings == {"recipe.prompt": ("Describe what is happening in the video.", "What happens?")}
    assert (found.changed, found.removed, found.added, found.same) == ({"text": 6}, {}, {}, 0)
    assert found.rows == {"train, epoch 0": (6, 6)}


def test_two_builds_of_one_output_are_compared_by_their_manifests(
    woven: Path, rebuild: Callable[..., None]
) -> None:
    store = open_store(str(woven))
    old = read_manifest(store, "l1").fingerprint
    rebuild(woven, "recipes.l1.frames_per_sample=3")
    new = read_manifest(store, "l1").fingerprint
    code, said = run_diff(woven / f"l1/manifests/{old}.json", woven / f"l1/manifests/{new}.json", "--json")
    assert code == 1
    (found,) = json.loads(said)["recipes"]
    assert found["settings"] == {"recipe.frames_per_sample": [4, 3]}
    assert found["changed"] == {"frames": 26}


def test_other_quality_of_the_same_frames_is_a_change_of_pixels(
    pristine: Path, woven: Path, rebuild: Callable[..., None]
) -> None:
    rebuild(woven, "frames.quality=40")
    found = diff_outputs(str(pristine), str(woven), recipe="l1").recipes[0]
    assert found.settings == {"frames.quality": (85, 40)}
    assert (found.changed, found.same) == ({"pixels": 26}, 0)


def test_a_sample_that_went_away_names_what_became_of_its_clips(
    pristine: Path, rendered: Path, tmp_path: Path, rebuild: Callable[..., None]
) -> None:
    source = Path(shutil.copytree(rendered, tmp_path / "source"))
    with (source / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (source / "videos" / rows[0]["contentUrl"]).write_bytes(b"")  # a reject
    with (source / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[:-1])  # and a clip that is no longer listed
    rebuild(tmp_path / "other", source=source)
    found = diff_outputs(str(pristine), str(tmp_path / "other"), recipe="l1").recipes[0]
    assert found.removed == {"a clip was rejected: empty_file": 1, "a clip is not woven there": 1}
    assert (found.added, found.changed, found.same) == ({}, {}, 24)
    backwards = diff_outputs(str(tmp_path / "other"), str(pristine), recipe="l1").recipes[0]
    assert backwards.added == found.removed
    groups = diff_outputs(str(pristine), str(tmp_path / "other"), recipe="l4").recipes[0]
    assert sum(groups.removed.values()) + groups.same + sum(groups.changed.values()) == 6


def test_the_shards_answer_where_the_plan_is_gone(
    pristine: Path, woven: Path, rebuild: Callable[..., None]
) -> None:
    rebuild(woven, "recipes.l4.prompt=What happens?")
    for path in (woven / "plans").iterdir():
        path.unlink()
    assert diff_outputs(str(pristine), str(woven), recipe="l4").recipes[0].changed == {"text": 6}


def test_a_recipe_that_one_side_lacks_is_named(
    pristine: Path, woven: Path, rebuild: Callable[..., None]
) -> None:
    more = {"name": "r2", "strategy": "random", "clips_per_sample": 2, "frames_per_sample": 4}
    rebuild(woven, recipes=[more])
    found = diff_outputs(str(pristine), str(woven))
    assert (found.only_a, found.only_b, found.is_equal) == ((), ("r2",), False)
