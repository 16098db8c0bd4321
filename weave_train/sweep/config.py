"""What a sweep's file says: arms, seeds, stages, evaluations, contrasts, a figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from weave_data.config import StrictModel, load_config, read_yaml
from weave_data.errors import ConfigError

__all__ = [
    "TRAINED_AXES",
    "ArmConfig",
    "BuildRef",
    "ContrastConfig",
    "EvaluationConfig",
    "FigureConfig",
    "StageEntry",
    "SweepConfig",
    "load_sweep",
]

TRAINED_AXES = ("samples", "flops", "supervised_tokens")
"""What every arm can be drawn against: sums over the stages of a cell, from its runs' metrics."""

_METRIC = re.compile(r"[^/\s]+/[^/\s]+/[^/\s]+( [^=\s]+=[^=]*[^=\s])*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: use letters, digits, '.', '_', '+', '-', at most 64 of them")
    return name


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Name = Annotated[str, AfterValidator(_checked_name)]
AxisValue = int | float | str
Flags = dict[str, Any]


class BuildRef(StrictModel):
    """A configuration of weave-data, and what is set on top of it.

    `config` is relative to the sweep's file. `set` holds settings by dotted path. Only recipes that an arm or
    a stage names are built. `plans: per-seed` weaves the recipes that arms name once for each seed: recipe
    `l4` becomes `l4-s1`, whose `seed` is 1; the decode pass is still one. `shared`: seeds read one plan.
    """

    config: str
    set: dict[str, Any] = Field(default={})
    plans: Literal["shared", "per-seed"] = "shared"


class StageEntry(StrictModel):
    """One training run of a cell, a run directory of its own.

    Without `recipe` it reads the arm's. It begins with the weights of the stage before, or of the one named
    by `starts_from`; `starts_from: nothing` begins as built.
    """

    name: Name
    recipe: str | None = None
    starts_from: str | None = None
    flags: Flags = Field(default={})


class ArmStage(StrictModel):
    """What an arm sets in one stage alone."""

    flags: Flags = Field(default={})


class ArmConfig(StrictModel):
    """What is compared.

    `recipe`: a name of a build's, or the URI of a manifest; null where `flags` name the data. `flags` are
    those of the stages that read it; `stages` adds flags to one stage. `axes` place the arm in tables and
    figures: numbers or words by name. `skip` names stages that this arm does without.
    """

    recipe: str | None = None
    flags: Flags = Field(default={})
    stages: dict[str, ArmStage] = Field(default={})
    axes: dict[str, AxisValue] = Field(default={})
    skip: list[str] = Field(default=[])


class EvaluationConfig(StrictModel):
    """One task that every cell's last stage is asked, by `weave-train evaluate`.

    `checkpoints: all` asks every kept checkpoint of that stage, for a curve; tables have the last.
    `flags` are those of the command without their dashes: `num-frames: 16`.
    """

    task: Name
    data: str
    name: Name | None = None
    flags: Flags = Field(default={})
    checkpoints: Literal["last", "all"] = "last"

    @property
    def called(self) -> str:
        """The first part of its metrics' names."""
        return self.name or self.task


class ContrastConfig(StrictModel):
    """Arm `a` minus arm `b` in a metric, on the questions with the tags of `where`.

    p-values are corrected over the contrasts of one `family`.
    """

    name: str
    a: str
    b: str
    metric: str
    where: dict[str, str] = Field(default={})
    family: str = "all"


class FigureConfig(StrictModel):
    """One picture: `y` against `x`, a colour for each value of the axis `group` (`arm`: for each arm).

    `x` is an axis of the arms, and a line joins the arms of a group; or it is `samples`, `flops` or
    `supervised_tokens`, and a line joins the checkpoints of an arm.
    """

    x: str
    y: str
    group: str = "arm"


class BootstrapConfig(StrictModel):
    """Resampling behind every interval."""

    draws: Annotated[int, Field(ge=100)] = 10_000
    seed: Annotated[int, Field(ge=0)] = 0
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class SweepConfig(StrictModel):
    """Everything `weave-train sweep` needs.

    A metric is written `EVALUATION/MODE/SCORE`, as `questions/frames/likelihood`, with tags that a question
    must have behind it: `questions/frames/likelihood type=order`. Values may hold spaces.

    `train` holds flags of `weave-train pretrain`, dotted or nested, common to all runs; those of a stage, an
    arm and an arm's stage win over it, in this order. A seed sets initial weights and the order of rows
    (`--seed`), and with `plans: per-seed` also which clips are woven together. `metrics` are listed in the
    table beside those of contrasts and figure.
    """

    name: Name
    output: str
    build: Annotated[list[BuildRef], BeforeValidator(_one_or_more)] = Field(default=[])
    train: Flags = Field(default={})
    stages: Annotated[list[StageEntry], Field(min_length=1)] = Field(default=[StageEntry(name="train")])
    arms: Annotated[dict[Name, ArmConfig], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    evaluate: list[EvaluationConfig] = Field(default=[])
    metrics: list[str] = Field(default=[])
    contrasts: list[ContrastConfig] = Field(default=[])
    figure: FigureConfig | None = None
    bootstrap: BootstrapConfig = BootstrapConfig()


def load_sweep(path: Path) -> SweepConfig:
    """Read a sweep's file.

    Raises:
        ConfigError: It can't be read; or all that is wrong with it, each with its dotted path.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read the sweep: {error.strerror}", origin=str(path)) from error
    config = load_config(SweepConfig, read_yaml(text, origin=str(path)), origin=str(path))
    problems = [
        *_repeats(config),
        *_stage_problems(config),
        *_arm_problems(config),
        *_metric_problems(config),
        *_figure_problems(config),
    ]
    if problems:
        raise ConfigError(problems, origin=str(path))
    return config


def _repeats(config: SweepConfig) -> list[str]:
    found = []
    named: dict[str, list[Any]] = {
        "seeds": config.seeds,
        "stages": [stage.name for stage in config.stages],
        "evaluate": [each.called for each in config.evaluate],
        "contrasts": [each.name for each in config.contrasts],
    }
    for where, values in named.items():
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            found.append(f"{where}: {', '.join(twice)} is there twice; give each its own")
    return found


def _stage_problems(config: SweepConfig) -> list[str]:
    found = []
    for index, stage in enumerate(config.stages):
        before = [each.name for each in config.stages[:index]]
        if stage.starts_from not in (None, "nothing", *before):
            found.append(
                f"stages.{stage.name}.starts_from: {stage.starts_from!r} is no stage before it: "
                f"{', '.join(before) or 'it is the first'}; name one, or nothing"
            )
    return found


def _arm_problems(config: SweepConfig) -> list[str]:
    found = []
    stages = {stage.name: stage for stage in config.stages}
    for name, arm in config.arms.items():
        for where, names in (("skip", arm.skip), ("stages", list(arm.stages))):
            found += [
                f"arms.{name}.{where}: {stage!r} is no stage: {', '.join(stages)}"
                for stage in names
                if stage not in stages
            ]
        left = [stage for stage in stages.values() if stage.name not in arm.skip]
        if not left:
            found.append(f"arms.{name}.skip: leaves nothing to train; keep a stage")
        reads = any(stage.recipe is None for stage in left)
        if arm.recipe is None and reads and not any(key.startswith("dataset") for key in arm.flags):
            found.append(
                f"arms.{name}.recipe: required: a stage without a recipe of its own reads it; name one, or "
                "the data by flags (dataset.mixture)"
            )
    return found


def _metric_problems(config: SweepConfig) -> list[str]:
    found = []
    for contrast in config.contrasts:
        found += [
            f"contrasts.{contrast.name}.{side}: there is no arm {arm!r}: {', '.join(config.arms)}"
            for side, arm in (("a", contrast.a), ("b", contrast.b))
            if arm not in config.arms
        ]
        found += _named_metric(config, contrast.metric, f"contrasts.{contrast.name}.metric")
        found += [
            f"contrasts.{contrast.name}.where.{tag}: {value!r}: a tag is a word; neither it nor its value "
            "holds '='"
            for tag, value in contrast.where.items()
            if not _METRIC.fullmatch(f"a/b/c {tag}={value}")
        ]
    for index, metric in enumerate(config.metrics):
        found += _named_metric(config, metric, f"metrics.{index}")
    return found


def _named_metric(config: SweepConfig, metric: str, path: str) -> list[str]:
    known = [each.called for each in config.evaluate]
    if not _METRIC.fullmatch(metric):
        example = f"{(known or ['task'])[0]}/frames/likelihood"
        return [f"{path}: {metric!r} is no EVALUATION/MODE/SCORE TAG=VALUE..., as {example}"]
    called = metric.partition("/")[0]
    return [] if called in known else [f"{path}: evaluate has no {called!r}: {', '.join(known) or 'nothing'}"]


def _figure_problems(config: SweepConfig) -> list[str]:
    figure = config.figure
    if figure is None:
        return []
    found = _named_metric(config, figure.y, "figure.y")
    axes = [set(arm.axes) for arm in config.arms.values()]
    common = sorted(set.intersection(*axes))
    if figure.x not in TRAINED_AXES:
        values = [arm.axes.get(figure.x) for arm in config.arms.values()]
        if not all(isinstance(value, (int, float)) for value in values):
            known = ", ".join([*TRAINED_AXES, *common])
            found.append(f"figure.x: {figure.x!r} is not a number in the axes of every arm; known: {known}")
    if figure.group != "arm" and figure.group not in common:
        known = ", ".join(["arm", *common])
        found.append(f"figure.group: {figure.group!r} is not among the axes of every arm; known: {known}")
    return found
