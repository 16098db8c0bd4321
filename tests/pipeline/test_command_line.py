"""The command line: its surface, exit codes, and the first steps of a new user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_builds import NUM_CLIPS, settings
from typer.testing import CliRunner

from weave_data.cli import app

SURFACE = {
    "doctor": {"--debug", "--json"},
    "build": {"--debug", "--dry-run", "--limit", "--replace"},
    "verify": {"--debug", "--quick"},
    "inspect": {"--debug", "--image", "--json", "--recipe", "--sample"},
    "init": {"--debug", "--output", "--to"},
    "submit": {
        "--address",
        "--debug",
        "--limit",
        "--no-wait",
        "--replace",
        "--runtime-env",
        "--working-dir",
    },
    "status": {"--debug", "--json", "--watch"},
    "explain": {"--debug", "--json", "--recipe"},
    "diff": {"--debug", "--json", "--recipe"},
    "report": {"--debug", "--to"},
    "export": {"--debug", "--format", "--recipe"},
    "enrich": {"--debug", "--dry-run", "--retry-rejected"},
    "retry": {"--debug", "--reason"},
    "remove": {"--clips", "--debug", "--yes"},
    "gc": {"--debug", "--min-age", "--superseded", "--yes"},
    "download": {"--debug", "--list"},
    "mix": set(),
    "train": {"--debug", "--num_ranks", "--trainer"},
}


def weave_data(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_surface_is_the_documented_one() -> None:
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = {
        name: {option for item in command.params for option in item.opts if option.startswith("--")}
        for name, command in commands.items()
    }
    assert found == SURFACE


@pytest.fixture(scope="module")
def built(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build and its configuration."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "build.yaml").write_text(json.dumps(settings(str(rendered), str(folder / "woven"))))
    code, said = weave_data("build", folder / "build.yaml")
    assert code == 0, said
    return folder


def test_inspect_names_recipes_shows_a_sample_and_draws_a_picture(built: Path, tmp_path: Path) -> None:
    code, said = weave_data("inspect", built / "woven")
    assert code == 0
    assert "l4" in said
    summary = json.loads(weave_data("inspect", built / "woven", "--json")[1])
    assert "l1" in json.dumps(summary)
    sheet = tmp_path / "sheet.png"
    code, _ = weave_data("inspect", built / "woven", "--recipe", "l4", "--image", sheet)
    assert code == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_verify_passes_and_then_finds_one_flipped_byte(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built / "woven", copy)
    assert weave_data("verify", copy)[0] == 0
    shard = next((copy / "l4").rglob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    code, said = weave_data("verify", copy)
    assert code == 5
    assert shard.name in said


def test_every_failure_has_its_exit_code_and_says_what_to_do(built: Path, tmp_path: Path) -> None:
    assert weave_data("build", tmp_path / "nothing.yaml")[0] == 2
    code, said = weave_data("build", built / "build.yaml", "recipes.l4.sed=3")
    assert (code, "did you mean 'seed'" in said) == (2, True)
    assert weave_data("build", built / "build.yaml", "recipes.l4.seed=3")[0] == 2  # published already
    assert weave_data("build", built / "build.yaml", f"source.catalog={tmp_path}/no.csv")[0] == 3
    assert weave_data("verify", tmp_path / "nowhere")[0] == 3


def test_init_writes_a_configuration_that_builds_as_it_is(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = weave_data("init", rendered, "--output", tmp_path / "woven")
    assert code == 0, said
    assert "weave-data build weave.yaml --limit 200" in said
    assert weave_data("init", rendered)[0] == 2  # never overwrites
    small = ["execution.in_process=true", "embedding.model=none"]
    code, said = weave_data("build", "weave.yaml", "--limit", "9", *small)
    assert code == 0, said
    assert "l1: 9 samples" in said
    code, said = weave_data("build", "weave.yaml", *small)
    assert code == 0, said
    assert f"l1: {NUM_CLIPS} samples" in said
    assert weave_data("verify", tmp_path / "woven")[0] == 0


def test_init_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    code, said = weave_data("init", tmp_path, "--to", tmp_path / "weave.yaml")
    assert code == 3
    assert "notes.csv" in said
    assert "videoid" in said
