"""The Dockerfile installs what `make setup` does; hadolint lints it. No image is built here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from published_shapes import FOLDER

ROOT = FOLDER.parent
DOCKERFILE = FOLDER / "Dockerfile"
INSTRUCTIONS = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER"}
TARGETS = ("cpu", "cuda")


class Instruction(NamedTuple):
    stage: str | None
    name: str
    argument: str


def instructions() -> list[Instruction]:
    """Continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    stage, found = None, []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, argument = line.split(maxsplit=1)
        if name == "FROM":
            stage = argument.rpartition(" AS ")[2]
        found.append(Instruction(stage, name, argument))
    return found


def of_stage(stage: str | None, name: str) -> list[str]:
    return [each.argument for each in instructions() if (each.stage, each.name) == (stage, name)]


def pip_steps(text: str) -> list[str]:
    return [
        re.sub(r"\s+", " ", step).strip() for step in re.findall(r"(-m pip install .*?)(?:&&|$)", text, re.M)
    ]


def make_steps() -> list[str]:
    """Of `make setup`, as a shell gets them."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = text[text.index("$(STAMP): pyproject.toml") : text.index("@touch $@")]
    return pip_steps(recipe.replace("$$", "$").replace("$(PIP_ARGS)", "${PIP_ARGS}"))


def install_steps(target: str) -> list[str]:
    (run,) = of_stage(target, "RUN")
    return pip_steps(run)


def test_instructions_are_known_and_in_two_targets() -> None:
    assert {each.name for each in instructions()} == INSTRUCTIONS
    stages = [each.argument.split(" AS ") for each in instructions() if each.name == "FROM"]
    assert stages == [["${PYTHON_IMAGE}", "base"], ["base", "cpu"], ["base", "cuda"]]


def test_the_base_is_pinned_to_a_python_that_the_package_runs_on() -> None:
    (base,) = of_stage(None, "ARG")
    pinned = re.fullmatch(r"PYTHON_IMAGE=python:3\.(\d+)\.\d+-slim-bookworm", base)
    assert pinned is not None
    assert int(pinned[1]) >= 11


@pytest.mark.parametrize("target", TARGETS)
def test_install_steps_are_those_of_make_setup(target: str) -> None:
    expected = [re.sub(r'"\.\[[\w,-]+\]"', ".", step) for step in make_steps()]  # without what tests need
    assert len(expected) == 3
    assert install_steps(target) == expected


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_an_ordinary_user(target: str) -> None:
    assert of_stage(target, "USER") == ["1000"]
    assert any("useradd --uid 1000" in run for run in of_stage("base", "RUN"))


def test_what_is_copied_is_there_and_suffices_for_the_package() -> None:
    copied = [word for argument in of_stage("base", "COPY") for word in argument.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (readme,) = re.findall(r'^readme = "(.+)"', project, re.M)
    (licences,) = re.findall(r"^license-files = \[(.+)\]", project, re.M)
    packages = re.findall(r'"(\w+)\*"', re.findall(r"^include = \[(.+)\]", project, re.M)[0])
    needed = {"pyproject.toml", "constraints.txt", readme, *re.findall(r'"(.+?)"', licences), *packages}
    assert needed <= set(copied)


def test_tokens_are_asked_for_in_every_container() -> None:
    assert any("RAY_AUTH_MODE=token" in argument for argument in of_stage("base", "ENV"))


def hadolint(dockerfile: Path) -> str:
    """What it says of a file; nothing is the best it can say."""
    program = Path(sys.executable).with_name("hadolint")
    run = subprocess.run(
        [str(program), "--no-color", str(dockerfile)], capture_output=True, text=True, check=False
    )
    assert run.returncode in (0, 1), run.stderr
    return run.stdout


@pytest.mark.process
def test_hadolint_has_nothing_to_say() -> None:
    assert hadolint(DOCKERFILE) == ""


@pytest.mark.process
def test_hadolint_would_say_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text(encoding="utf-8") + "RUN cd / && apt-get install git\n")
    assert "DL3008" in hadolint(worse)


@pytest.mark.slow
@pytest.mark.process
def test_install_steps_make_a_working_environment(tmp_path: Path) -> None:
    """Two gigabytes and minutes; `WEAVE_PIP_ARGS` chooses another package index."""
    for word in " ".join(of_stage("base", "COPY")).replace("./", "").split():
        source = ROOT / word
        if source.is_dir():
            shutil.copytree(source, tmp_path / word, dirs_exist_ok=True)
        else:
            shutil.copy(source, tmp_path / word)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    script = " && ".join(f"{python} {step}" for step in install_steps("cpu"))
    environment = {**os.environ, "PIP_ARGS": os.environ.get("WEAVE_PIP_ARGS", "")}
    environment.pop("PYTHONPATH", None)
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, check=True)
    for program in ("weave-data", "weave-train"):
        words = [str(python.with_name(program)), "--help"]
        subprocess.run(words, cwd="/", env=environment, check=True, capture_output=True)
