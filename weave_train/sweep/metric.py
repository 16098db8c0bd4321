"""A metric by its name: `EVALUATION/MODE/SCORE`, and tags that a question must have: `... type=order`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from weave_train.sweep.config import ContrastConfig, SweepConfig

__all__ = ["Metric", "contrast_metric", "parsed", "shown_metrics"]


@dataclass(frozen=True)
class Metric:
    """What is measured.

    Attributes:
        evaluation: Its name in the sweep's file.
        mode: `frames`, `blind`, ...
        score: `likelihood`, `generated`, ...
        where: Tags that a question must have.
    """

    evaluation: str
    mode: str
    score: str
    where: Mapping[str, str]

    @property
    def name(self) -> str:
        """As in the sweep's file, tags sorted."""
        tags = [f"{tag}={value}" for tag, value in sorted(self.where.items())]
        return " ".join([f"{self.evaluation}/{self.mode}/{self.score}", *tags])

    @property
    def blind(self) -> Metric:
        """The same of a model that sees nothing."""
        return Metric(self.evaluation, "blind", self.score, self.where)


_TAG = re.compile(r" (?=[^\s=]+=)")
"""Where a tag begins; values may hold spaces: `videomme/frames/generated task_type=Temporal Reasoning`."""


def parsed(text: str) -> Metric:
    """A metric by its name, as `load_sweep` has checked it."""
    path, *tags = _TAG.split(text)
    evaluation, mode, score = path.split("/")
    return Metric(evaluation, mode, score, dict(tag.split("=", 1) for tag in tags))


def contrast_metric(contrast: ContrastConfig) -> Metric:
    """A contrast's metric, on the questions that it is about."""
    metric = parsed(contrast.metric)
    return Metric(metric.evaluation, metric.mode, metric.score, {**metric.where, **contrast.where})


def shown_metrics(config: SweepConfig) -> list[Metric]:
    """Metrics of the table, each once: the figure's, those of contrasts, then those asked for."""
    figure = [parsed(config.figure.y)] if config.figure else []
    named = [contrast_metric(each) for each in config.contrasts]
    every = [*figure, *named, *map(parsed, config.metrics)]
    return list({metric.name: metric for metric in every}.values())
