"""Small builds for tests of faults, and the storm they go through."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3server.faults import Fault, Storm
from small_builds import settings
from world import render_world

from weave_data.config import BuildConfig, load_config
from weave_data.pipeline import BuildResult, build


@dataclass(frozen=True)
class Undisturbed:
    """A build that nobody disturbs: where its source lies in the bucket, and what it published."""

    source: str
    contents: dict[str, str]
    manifests: dict[str, str]


def render_small_world(folder: Path) -> None:
    render_world(folder, num_clips=8, seed=5, size_px=(64, 80), seconds=1.0)


def small_settings(source: str, output: str) -> dict[str, Any]:
    """Eight clips in two parts, woven by fours: about a hundred requests."""
    values = settings(source, output)
    values["source"]["part_clips"] = 4
    values["recipes"] = [recipe for recipe in values["recipes"] if recipe["name"] == "l4"]
    return values


def build_here(source: str, output: str) -> BuildResult:
    """Build in this process."""
    return build(load_config(BuildConfig, small_settings(source, output), origin="test"))


def write_small_config(folder: Path, source: str, output: str, *, in_process: bool) -> Path:
    """The same build as a file."""
    values = small_settings(source, output)
    values["execution"] = {"in_process": in_process, "num_cpus": 2}
    path = folder / "build.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def storm_of_everything(seed: int) -> Storm:
    """5 % refused in bursts of three, and 2 % of everything else."""
    others = (Fault.RESET, Fault.CUT_BODY, Fault.DROP_REPLY, Fault.STALL)
    return Storm({Fault.REFUSE: 0.05} | dict.fromkeys(others, 0.02), seed)
