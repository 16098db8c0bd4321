"""Which recipes a sweep needs, and the configuration that builds them in one decode pass."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from weave_data.config import BuildConfig, RecipeConfig, load_config, read_yaml
from weave_data.errors import ConfigError
from weave_train.sweep.config import BuildRef, SweepConfig

__all__ = ["Build", "Recipes", "estimate_samples", "plan_builds"]


@dataclass(frozen=True)
class Build:
    """One call of `weave-data build`.

    Attributes:
        config: What is built, recipes of the sweep only, one for each seed where they are woven per seed.
        path: Where its file is written.
    """

    config: BuildConfig
    path: Path

    def words(self) -> list[str]:
        """The command."""
        return ["weave-data", "build", str(self.path)]

    def write(self) -> None:
        """Write its file; the same sweep writes the same file."""
        yaml, sink = YAML(typ="safe", pure=True), io.StringIO()
        yaml.default_flow_style = False
        yaml.dump(self.config.model_dump(exclude_unset=True), sink)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(sink.getvalue(), encoding="utf-8")


@dataclass(frozen=True)
class Recipes:
    """Recipes by the names that the sweep's file calls them.

    Attributes:
        of_build: Build and recipe by name.
        per_seed: Names that have a plan for each seed.
    """

    of_build: Mapping[str, tuple[BuildConfig, RecipeConfig]]
    per_seed: frozenset[str]

    def manifest(self, name: str, *, seed: int) -> str:
        """URI of the manifest that a cell of a seed reads; what names no recipe is a URI already."""
        if name not in self.of_build:
            return name
        build, _ = self.of_build[name]
        built = _seeded_name(name, seed) if name in self.per_seed else name
        return f"{build.output.rstrip('/')}/{built}/manifest.json"

    def recipe(self, name: str) -> RecipeConfig | None:
        """Of a build; None for a URI."""
        found = self.of_build.get(name)
        return found[1] if found else None


def plan_builds(config: SweepConfig, *, file: Path) -> tuple[list[Build], Recipes, list[str]]:
    """Load the builds of a sweep.

    Args:
        config: Of the sweep.
        file: It was read from; configurations are relative to it.

    Returns:
        What to build, the recipes by name, and what is wrong.
    """
    by_arms = {arm.recipe for arm in config.arms.values() if arm.recipe}
    named = by_arms | {stage.recipe for stage in config.stages if stage.recipe}
    loaded, problems = [], []
    for index, ref in enumerate(config.build):
        try:
            loaded.append((ref, _load(ref, file.parent / ref.config)))
        except ConfigError as error:
            problems += [f"build.{index}: {line}" for line in str(error).splitlines()]
    of_build: dict[str, tuple[BuildConfig, RecipeConfig]] = {}
    per_seed: set[str] = set()
    for ref, build in loaded:
        for recipe in build.recipes:
            if recipe.name in of_build and recipe.name in named:
                problems.append(f"build: two builds have a recipe {recipe.name!r}; rename one")
            of_build[recipe.name] = (build, recipe)
            if ref.plans == "per-seed" and recipe.name in by_arms:
                per_seed.add(recipe.name)
    if not problems:
        problems += [
            f"{where}.recipe: {name!r} is no recipe of the builds ({', '.join(of_build) or 'none'}), and no "
            "URI of a manifest"
            for where, name in _named(config)
            if name not in of_build and "/" not in name
        ]
    builds = [
        Build(
            _chosen(build, named, per_seed, config.seeds),
            Path(config.output) / "builds" / f"{index}-{Path(ref.config).stem}.yaml",
        )
        for index, (ref, build) in enumerate(loaded)
        if any(recipe.name in named for recipe in build.recipes)
    ]
    return builds, Recipes(of_build, frozenset(per_seed)), problems


def estimate_samples(recipe: RecipeConfig) -> int | None:
    """Samples of one epoch where `match` says so before anything is built; None: it doesn't."""
    rule = recipe.match
    if rule is None or rule.by == "tokens":
        return None
    if rule.by == "samples":
        return rule.count
    clips = recipe.clips_per_sample
    return rule.count // clips if isinstance(clips, int) else None


def _load(ref: BuildRef, path: Path) -> BuildConfig:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read the configuration: {error.strerror}", origin=str(path)) from error
    values = read_yaml(text, origin=str(path))
    return load_config(BuildConfig, values, overrides=list(ref.set.items()), origin=str(path))


def _named(config: SweepConfig) -> list[tuple[str, str]]:
    arms = [(f"arms.{name}", arm.recipe) for name, arm in config.arms.items()]
    stages = [(f"stages.{stage.name}", stage.recipe) for stage in config.stages]
    return [(where, recipe) for where, recipe in [*arms, *stages] if recipe is not None]


def _chosen(build: BuildConfig, named: set[str], per_seed: set[str], seeds: Sequence[int]) -> BuildConfig:
    recipes = []
    for recipe in build.recipes:
        if recipe.name in per_seed:
            recipes += [
                recipe.model_copy(update={"name": _seeded_name(recipe.name, seed), "seed": seed})
                for seed in seeds
            ]
        elif recipe.name in named:
            recipes.append(recipe)
    return build.model_copy(update={"recipes": recipes})


def _seeded_name(name: str, seed: int) -> str:
    return f"{name}-s{seed}"
