"""Scores of one evaluation as a table of questions, and what a run has used up to a step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weave_data.errors import VerificationError
from weave_train.numbers import read_metrics
from weave_train.sweep.cells import Cell
from weave_train.sweep.metric import Metric

__all__ = ["Answers", "Row", "Used", "read_answers", "scores_by_video", "used_until"]


@dataclass(frozen=True)
class Answers:
    """What one model answered.

    Attributes:
        rows: Scores by mode, then question id: `{"frames": {"q1": Row, ...}}`.
        summary: `results.json`.
    """

    rows: Mapping[str, Mapping[str, Row]]
    summary: Mapping[str, Any]

    def scored(self, metric: Metric) -> dict[str, Row]:
        """Questions that have a metric's score and tags, by id."""
        return {
            name: row
            for name, row in self.rows.get(metric.mode, {}).items()
            if metric.score in row.scores
            and all(row.tags.get(tag) == value for tag, value in metric.where.items())
        }

    def mean(self, metric: Metric) -> float | None:
        """Mean over a metric's questions; of a score that no question has by itself, the summary's."""
        values = [row.scores[metric.score] for row in self.scored(metric).values()]
        if values:
            return float(np.mean(values))
        if metric.where:
            return None
        scores = self.summary.get("modes", {}).get(metric.mode, {}).get("scores", {})
        mean = scores.get(metric.score, {}).get("mean")
        return None if mean is None else float(mean)

    def num_lost(self, metric: Metric) -> int:
        """Questions of a metric's mode without an answer."""
        return sum(row.is_lost for row in self.rows.get(metric.mode, {}).values())

    @property
    def metrics(self) -> list[tuple[str, str]]:
        """Every (mode, score) that there is, sorted."""
        own = {
            (mode, score) for mode, rows in self.rows.items() for row in rows.values() for score in row.scores
        }
        summed = {
            (mode, score)
            for mode, values in self.summary.get("modes", {}).items()
            for score in values.get("scores", {})
        }
        return sorted(own | summed)


@dataclass(frozen=True)
class Row:
    """One question's scores; a question about no video counts as a video of its own."""

    video: str
    scores: Mapping[str, float]
    tags: Mapping[str, str]
    is_lost: bool


def read_answers(folder: Path) -> Answers:
    """Read `results.json` and `answers.jsonl` of one task.

    Raises:
        VerificationError: They are missing or damaged.
    """
    summary = _read_json(folder / "results.json")
    rows: dict[str, dict[str, Row]] = {}
    path = folder / "answers.jsonl"
    if not path.is_file():
        return Answers(rows, summary)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
            scores = {
                name: float(value) for name, value in (values["scores"] or {}).items() if value is not None
            }
            row = Row(
                video=str(values["video"] or values["id"]),
                scores=scores,
                tags={name: str(value) for name, value in (values.get("tags") or {}).items()},
                is_lost=values.get("problem") is not None and not scores,
            )
            rows.setdefault(values["mode"], {})[values["id"]] = row
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VerificationError(f"{path}:{number}: no answer: {error!r}; evaluate again") from error
    return Answers(rows, summary)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VerificationError(f"{path}: can't be read: {error}; evaluate again") from error
    if not isinstance(values, dict):
        raise VerificationError(f"{path}: holds no JSON object; evaluate again")
    return values


def scores_by_video(
    answers: Sequence[Answers], metric: Metric, *, minus: Sequence[Answers] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Scores that all models have, summed by video.

    Args:
        answers: One a model.
        metric: Whose.
        minus: As many: their scores are taken off, question by question.

    Returns:
        float64[models, videos] sums, float64[videos] counts, and how many questions some model lacks.
    """
    sides = [each.scored(metric) for each in [*answers, *(minus or ())]]
    names = [set(rows) for rows in sides]
    common = sorted(set.intersection(*names))
    videos = sorted({sides[0][name].video for name in common})
    place = {video: index for index, video in enumerate(videos)}
    sums = np.zeros((len(answers), len(videos)))
    counts = np.zeros(len(videos))
    for name in common:
        counts[place[sides[0][name].video]] += 1
    for model, rows in enumerate(sides[: len(answers)]):
        for name in common:
            other = sides[len(answers) + model][name].scores[metric.score] if minus is not None else 0.0
            sums[model, place[sides[0][name].video]] += rows[name].scores[metric.score] - other
    return sums, counts, len(set.union(*names)) - len(common)


@dataclass(frozen=True)
class Used:
    """What a cell's runs took, all stages together."""

    steps: int
    samples: int
    tokens: int
    supervised_tokens: int
    flops: float


def used_until(cell: Cell, step: int | None = None) -> Used:
    """Sums over a cell's runs.

    Args:
        cell: Its runs are done.
        step: Of its last stage; None: all of them.

    Raises:
        VerificationError: A run's metrics lack steps.
    """
    totals = dict.fromkeys(("Samples", "Tokens", "Supervised Tokens", "Model TFLOP"), 0.0)
    num_steps = 0
    for stage in cell.stages:
        prefix = stage.config.stage.capitalize()
        lines = read_metrics(stage.run_dir)
        last = step if stage is cell.last else None
        if last is not None:
            lines = [line for line in lines if line[f"{prefix}/Step"] <= last]
        if [line[f"{prefix}/Step"] for line in lines] != list(range(1, len(lines) + 1)) or (
            last is not None and len(lines) != last
        ):
            raise VerificationError(
                f"{stage.run_dir}/metrics.jsonl: steps are missing; delete the cell's directory to train anew"
            )
        num_steps += len(lines)
        for name in totals:
            totals[name] += sum(line[f"{prefix}/{name}"] for line in lines)
    return Used(
        steps=num_steps,
        samples=int(totals["Samples"]),
        tokens=int(totals["Tokens"]),
        supervised_tokens=int(totals["Supervised Tokens"]),
        flops=totals["Model TFLOP"] * 1e12,
    )
