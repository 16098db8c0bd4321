"""Cells of a sweep, arms times seeds: which runs each has, in which directories, with which flags.

OUTPUT/cells/<arm>-s<seed>/<stage>/                                      a run directory
                           evaluations/<name>/step-<n>/<task>/           what `weave-train evaluate` wrote
                           logs/<what>.log                               what the commands said
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.sweep.builds import Build, Recipes, plan_builds
from weave_train.sweep.config import (
    ArmConfig,
    AxisValue,
    EvaluationConfig,
    StageEntry,
    SweepConfig,
    load_sweep,
)

__all__ = ["Cell", "CellStage", "Sweep", "flag_words", "load_cells"]

Pairs = list[tuple[str, Any]]

_OWN = {
    "config": "its settings are given here",
    "dry_run": "weave-train sweep --dry-run shows what would run",
    "launcher": "give weave-train sweep --launcher",
    "max_restarts": "the same sweep command goes on",
    "resume": "runs go on by themselves",
    "run_id": "it is the stage's name",
    "run_root_dir": "it is the cell's directory",
    "seed": "list seeds",
    "stop_after_steps": "a cell that stops early is never done",
}
"""Flags that a sweep sets itself."""


@dataclass(frozen=True)
class CellStage:
    """One training run.

    Attributes:
        name: Of the stage.
        config: As `weave-train pretrain` reads it.
        words: Flags that say the same.
        recipe: As the sweep's file calls it; None where flags name the data.
    """

    name: str
    config: PretrainConfig
    words: tuple[str, ...]
    recipe: str | None

    @property
    def run_dir(self) -> Path:
        """Where it trains."""
        return Path(self.config.run_root_dir) / self.name


@dataclass(frozen=True)
class Cell:
    """One arm with one seed."""

    arm: str
    seed: int
    axes: Mapping[str, AxisValue]
    stages: tuple[CellStage, ...]
    evaluations: tuple[EvaluationConfig, ...]
    directory: Path

    @property
    def name(self) -> str:
        """`<arm>-s<seed>`."""
        return f"{self.arm}-s{self.seed}"

    @property
    def last(self) -> CellStage:
        """The stage that is evaluated."""
        return self.stages[-1]


@dataclass(frozen=True)
class Sweep:
    """A sweep's file, worked out.

    Attributes:
        cells: All of them, by arm as in the file, then by seed.
    """

    config: SweepConfig
    builds: tuple[Build, ...]
    recipes: Recipes
    cells: tuple[Cell, ...]

    def chosen(self, arms: Sequence[str] | None) -> tuple[Cell, ...]:
        """Cells of some arms; None: all.

        Raises:
            ConfigError: There is no such arm.
        """
        unknown = [arm for arm in arms or () if arm not in self.config.arms]
        if unknown:
            raise ConfigError(f"only: there is no arm {unknown[0]!r}: {', '.join(self.config.arms)}")
        return tuple(cell for cell in self.cells if arms is None or cell.arm in arms)


def load_cells(file: Path) -> Sweep:
    """Read a sweep's file and check the flags of every run in it.

    Raises:
        ConfigError: All that is wrong with it.
    """
    config = load_sweep(file)
    builds, recipes, problems = plan_builds(config, file=file)
    found: dict[str, list[str]] = {}
    cells = []
    for arm_name, arm in config.arms.items():
        for seed in config.seeds:
            cell, wrong = _cell(config, recipes, arm_name, arm, seed)
            cells.append(cell)
            for problem in wrong:
                found.setdefault(problem, []).append(arm_name)
    for problem, arms in found.items():
        whose = list(dict.fromkeys(arms))
        every = len(config.arms) > 1 and len(whose) == len(config.arms)
        problems.append(f"{'every arm' if every else 'arms.' + ', arms.'.join(whose)}, {problem}")
    if problems:
        raise ConfigError(problems, origin=str(file))
    return Sweep(config, tuple(builds), recipes, tuple(cells))


def _cell(
    config: SweepConfig, recipes: Recipes, arm_name: str, arm: ArmConfig, seed: int
) -> tuple[Cell, list[str]]:
    directory = Path(config.output) / "cells" / f"{arm_name}-s{seed}"
    stages: list[CellStage] = []
    problems: list[str] = []
    for entry in config.stages:
        if entry.name in arm.skip:
            continue
        recipe = entry.recipe or arm.recipe
        given = _given(config, entry, arm)
        pairs: Pairs = [*given, ("run_root_dir", str(directory)), ("run_id", entry.name), ("seed", seed)]
        wrong = [f"{name}: is the sweep's own flag: {_OWN[name]}" for name, _ in given if name in _OWN]
        if recipe is not None:
            wrong += [f"{name}: contradicts recipe {recipe!r}" for name, _ in given if _names_data(name)]
            pairs.append(("dataset.manifest", recipes.manifest(recipe, seed=seed)))
        uri = dict(given).get("checkpoint.uri")
        if isinstance(uri, str):
            pairs.append(("checkpoint.uri", f"{uri.rstrip('/')}/{directory.name}/{entry.name}"))
        pairs += _donor(entry, stages, arm)
        try:
            loaded = load_pretrain_config(pairs, origin="")
        except ConfigError as error:
            problems += [f"stage {entry.name}: {line}" for line in [*wrong, *error.problems]]
            continue
        problems += [f"stage {entry.name}: {line}" for line in wrong]
        stages.append(CellStage(entry.name, loaded, tuple(flag_words(pairs)), recipe))
    return Cell(arm_name, seed, arm.axes, tuple(stages), tuple(config.evaluate), directory), problems


def _given(config: SweepConfig, entry: StageEntry, arm: ArmConfig) -> Pairs:
    """Flags of the file for one run, the later ones win."""
    own = arm.stages[entry.name].flags if entry.name in arm.stages else {}
    reads_arm = arm.flags if entry.recipe is None else {}
    pairs = [pair for flags in (config.train, entry.flags, reads_arm, own) for pair in _dotted(flags)]
    return list(dict(pairs).items())


def _dotted(flags: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in flags.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _names_data(flag: str) -> bool:
    return flag in ("dataset.manifest", "dataset.mixture", "dataset.type")


def _donor(entry: StageEntry, before: Sequence[CellStage], arm: ArmConfig) -> Pairs:
    """The flag by which a stage begins with an earlier one's weights, or with an aligned projector."""
    if entry.starts_from == "nothing" or entry.starts_from in arm.skip:
        return []
    names = [stage.name for stage in before]
    wanted = entry.starts_from or (names[-1] if names else None)
    if wanted not in names:
        return []
    donor = before[names.index(wanted)]
    flag = "pretrained_checkpoint" if donor.config.stage == "align" else "model.init_from_model"
    return [(flag, str(donor.run_dir))]


def flag_words(pairs: Pairs) -> list[str]:
    """Flags as they are written on a command line."""
    words = []
    for name, value in dict(pairs).items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{name}={text}"] if text.startswith("--") or not text else [f"--{name}", text]
    return words
