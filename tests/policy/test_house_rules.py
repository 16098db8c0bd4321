"""Rules of the house that a reviewer should not have to remember."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import weave_data
import weave_train
from weave_data.torchvision_ops import install

ROOT = Path(__file__).resolve().parents[2]


def modules() -> list[str]:
    names = []
    for package in (weave_data, weave_train):
        names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.process
def test_importing_weave_data_loads_neither_torch_nor_ray() -> None:
    script = (
        "import sys, json, weave_data, weave_data.config, weave_data.records, weave_data.storage, "
        "weave_data.catalog, weave_data.cluster, weave_data.weave, weave_data.shard, weave_data.execute, "
        "weave_data.pipeline, weave_data.cli; "
        "print(json.dumps([m for m in ('torch', 'ray', 'transformers', 'deepspeed') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


@pytest.mark.parametrize("name", modules())
def test_every_module_pins_its_public_names(name: str) -> None:
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")  # type: ignore[union-attr, arg-type]
    declared = re.search(r"^__all__ = \[(.*?)\]", source, re.M | re.S)
    if declared is None:
        assert not re.search(r"^(def|class) [a-z]", source, re.M | re.I), f"{name} has no __all__"
        return
    names = re.findall(r'"([^"]+)"', declared.group(1))
    assert len(names) == len(set(names)), f"{name}: a name is listed twice"
    if name == "weave_train.harness.model":
        pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: `make lmms-eval`")
    if name.endswith("__init__") or "import" in source:
        install()  # a run's exported code imports transformers as it finds it
        module = importlib.import_module(name)
        missing = [item for item in names if not hasattr(module, item)]
        assert not missing, f"{name}: {missing} are in __all__ but not defined"


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))  # pytest imports them by name


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_repository_names_no_machine_and_no_registry() -> None:
    pattern = re.compile(
        r"(?<![\w.])/(?:home|root|work|Users)/\w|\.\./shared/(?!assets)|pypi\.org|/simurgh/|/vision/u/"
    )
    found = []
    for path in repository_files():
        if path == Path(__file__) or path.suffix in {".png", ".jpg", ".mp4"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_rooms_have_no_drawers() -> None:
    drawers = {"utils", "util", "helpers", "common", "manager", "misc"}
    found = [name for name in modules() if drawers & set(name.split("."))]
    assert not found


def test_every_dependency_carries_its_reason_and_a_pin() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    lines = [line for line in block.splitlines() if re.match(r'\s+"', line)]
    assert lines
    assert all("#" in line for line in lines), [line for line in lines if "#" not in line]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    for line in lines:
        name = re.match(r'\s+"([A-Za-z0-9._-]+)', line).group(1).lower().replace("_", "-")  # type: ignore[union-attr]
        assert re.search(rf"^{re.escape(name)}==", pins, re.M), f"{name} has no pin in constraints.txt"


def test_every_configuration_in_examples_loads() -> None:
    from weave_data.config import BuildConfig, load_config, read_yaml

    configurations = [
        path for path in (ROOT / "examples").rglob("*.yaml") if "recipes:" in path.read_text(encoding="utf-8")
    ]
    assert configurations
    for path in configurations:
        load_config(
            BuildConfig, read_yaml(path.read_text(encoding="utf-8"), origin=str(path)), origin=str(path)
        )


def test_the_continuous_integration_script_is_executable_and_calls_the_same_commands_as_people() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    text = script.read_text(encoding="utf-8")
    for target in ("make setup", "make check", "make test"):
        assert target in text


def test_every_error_class_and_every_reject_reason_is_named_by_some_test() -> None:
    from weave_data import errors
    from weave_data.records import RejectReason

    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    text = "\n".join(part for part in texts if "test_every_error_class" not in part)
    names = [name for name in errors.__all__ if name != "WeaveError"]
    names += [reason.value for reason in RejectReason]
    assert not [name for name in names if name not in text]
