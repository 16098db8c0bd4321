"""What a sweep found: means of arms, contrasts, points of the figure, as one JSON-able record.

Everything in it is a function of the cells' own files, so the same cells give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any

from weave_data.errors import VerificationError
from weave_train.sweep.answers import Answers, Used, read_answers, scores_by_video, used_until
from weave_train.sweep.cells import Cell, Sweep
from weave_train.sweep.config import TRAINED_AXES, ContrastConfig
from weave_train.sweep.metric import Metric, contrast_metric, parsed, shown_metrics
from weave_train.sweep.states import evaluated_at, steps_to_ask
from weave_train.sweep.statistics import Interval, bootstrap_interval, holm

__all__ = ["gather"]

OUTCOME_VERSION = 1


def gather(sweep: Sweep, done: Sequence[Cell]) -> dict[str, Any]:
    """Read what cells have written.

    Args:
        sweep: Of the file.
        done: Its finished cells.

    Raises:
        VerificationError: A file of theirs is damaged, or a metric is not there.
    """
    finished = {cell.name for cell in done}
    answers = {cell.name: _last_answers(cell) for cell in done}
    contrasts = [
        _contrast(sweep, each, [cell for cell in done if cell.arm in (each.a, each.b)], answers)
        for each in sweep.config.contrasts
    ]
    _correct(contrasts, num_seeds=len(sweep.config.seeds))
    return {
        "version": OUTCOME_VERSION,
        "name": sweep.config.name,
        "seeds": sweep.config.seeds,
        "level": sweep.config.bootstrap.level,
        "missing": [cell.name for cell in sweep.cells if cell.name not in finished],
        "arms": [
            _arm(sweep, arm, [cell for cell in done if cell.arm == arm], answers) for arm in sweep.config.arms
        ],
        "all_arms": _all_arms(sweep, done, answers),
        "contrasts": contrasts,
        "points": _points(sweep, done),
    }


def _last_answers(cell: Cell) -> dict[str, Answers]:
    return {
        entry.called: read_answers(evaluated_at(cell, entry, steps_to_ask(cell, entry)[-1]).results)
        for entry in cell.evaluations
    }


def _arm(
    sweep: Sweep, arm: str, cells: Sequence[Cell], answers: Mapping[str, Mapping[str, Answers]]
) -> dict[str, Any]:
    used = {cell.seed: used_until(cell) for cell in cells}
    names = {
        f"{called}/{mode}/{score}"
        for cell in cells
        for called, each in answers[cell.name].items()
        for mode, score in each.metrics
    }
    for metric in shown_metrics(sweep.config) if cells else ():
        path = metric.name.split()[0]
        if path not in names:
            known = ", ".join(sorted(name for name in names if " " not in name)) or "none"
            raise VerificationError(f"arm {arm}: no metric {path!r}; there are {known}")
        names |= {metric.name, metric.blind.name} if metric.blind.name.split()[0] in names else {metric.name}
    return {
        "arm": arm,
        "axes": dict(sweep.config.arms[arm].axes),
        "seeds": [cell.seed for cell in cells],
        "used": {str(seed): asdict(each) for seed, each in used.items()},
        "metrics": {name: _metric(sweep, parsed(name), cells, answers) for name in sorted(names)},
    }


def _metric(
    sweep: Sweep, metric: Metric, cells: Sequence[Cell], answers: Mapping[str, Mapping[str, Answers]]
) -> dict[str, Any]:
    of_seed = {cell.seed: answers[cell.name][metric.evaluation] for cell in cells}
    by_seed = {str(seed): each.mean(metric) for seed, each in of_seed.items()}
    known = [value for value in by_seed.values() if value is not None]
    found: dict[str, Any] = {
        "mean": mean(known) if known else None,
        "sd": stdev(known) if len(known) > 1 else None,
        "by_seed": by_seed,
        "questions": max(len(each.scored(metric)) for each in of_seed.values()),
        "lost": {str(seed): each.num_lost(metric) for seed, each in of_seed.items()},
    }
    if metric in shown_metrics(sweep.config) and found["questions"]:
        sums, counts, _ = scores_by_video(list(of_seed.values()), metric)
        found["interval"] = asdict(_interval(sweep, sums, counts)) if counts.size else None
    return found


def _all_arms(
    sweep: Sweep, done: Sequence[Cell], answers: Mapping[str, Mapping[str, Answers]]
) -> dict[str, Any]:
    """Mean over arms of each shown metric, once all cells are there: did the models learn anything?"""
    if len(done) < len(sweep.cells):
        return {}
    found = {}
    for metric in shown_metrics(sweep.config):
        of_cells = [answers[cell.name][metric.evaluation] for cell in sweep.cells]
        sums, counts, _ = scores_by_video(of_cells, metric)
        if counts.size:
            # cells are ordered by arm, then by seed
            by_seed = sums.reshape(len(sweep.config.arms), len(sweep.config.seeds), -1).mean(axis=0)
            found[metric.name] = asdict(_interval(sweep, by_seed, counts))
    return found


def _contrast(
    sweep: Sweep,
    contrast: ContrastConfig,
    cells: Sequence[Cell],
    answers: Mapping[str, Mapping[str, Answers]],
) -> dict[str, Any]:
    metric = contrast_metric(contrast)
    of = {(cell.arm, cell.seed): answers[cell.name][metric.evaluation] for cell in cells}
    seeds = [seed for seed in sweep.config.seeds if (contrast.a, seed) in of and (contrast.b, seed) in of]
    found: dict[str, Any] = {
        "name": contrast.name,
        "a": contrast.a,
        "b": contrast.b,
        "metric": metric.name,
        "family": contrast.family,
        "seeds": seeds,
        "p_holm": None,
    }
    if not seeds:
        return {**found, "questions": 0, "videos": 0, "unpaired": 0, "by_seed": {}, "interval": None}
    sums, counts, unpaired = scores_by_video(
        [of[contrast.a, seed] for seed in seeds], metric, minus=[of[contrast.b, seed] for seed in seeds]
    )
    if not counts.size:
        raise VerificationError(
            f"contrast {contrast.name!r}: no question of both arms has {metric.name}; look at answers.jsonl"
        )
    return {
        **found,
        "questions": int(counts.sum()),
        "videos": int(counts.size),
        "unpaired": unpaired,
        "by_seed": {
            str(seed): float(row.sum() / counts.sum()) for seed, row in zip(seeds, sums, strict=True)
        },
        "interval": asdict(_interval(sweep, sums, counts)),
    }


def _interval(sweep: Sweep, sums: Any, counts: Any) -> Interval:
    settings = sweep.config.bootstrap
    return bootstrap_interval(sums, counts, draws=settings.draws, seed=settings.seed, level=settings.level)


def _correct(contrasts: Sequence[dict[str, Any]], *, num_seeds: int) -> None:
    """Holm's p-values, over the contrasts of each family; one that lacks seeds is not known yet."""
    for family in dict.fromkeys(each["family"] for each in contrasts):
        members = [each for each in contrasts if each["family"] == family]
        values = [
            each["interval"]["p"] if each["interval"] and len(each["seeds"]) == num_seeds else None
            for each in members
        ]
        for each, adjusted in zip(members, holm(values), strict=True):
            each["p_holm"] = adjusted


def _points(sweep: Sweep, done: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of the figure: one for each cell and checkpoint that was asked."""
    figure = sweep.config.figure
    if figure is None:
        return []
    metric = parsed(figure.y)
    points = []
    for cell in done:
        entry = next(each for each in cell.evaluations if each.called == metric.evaluation)
        steps = steps_to_ask(cell, entry)
        for step in steps if figure.x in TRAINED_AXES else steps[-1:]:
            answers = read_answers(evaluated_at(cell, entry, step).results)
            points.append(
                {
                    "arm": cell.arm,
                    "seed": cell.seed,
                    "step": step,
                    "group": cell.arm if figure.group == "arm" else cell.axes[figure.group],
                    "x": _place(figure.x, cell, used_until(cell, step)),
                    "y": answers.mean(metric),
                    "blind": answers.mean(metric.blind) if metric.mode != "blind" else None,
                }
            )
    return points


def _place(axis: str, cell: Cell, used: Used) -> float:
    return float(getattr(used, axis) if axis in TRAINED_AXES else cell.axes[axis])
