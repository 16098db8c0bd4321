"""`table.md`: a sweep's outcome for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from weave_train.sweep.config import SweepConfig
from weave_train.sweep.metric import Metric, shown_metrics

__all__ = ["table_lines"]


def table_lines(config: SweepConfig, outcome: Mapping[str, Any]) -> list[str]:
    """Markdown: arms by metric, contrasts, what the runs took.

    Args:
        config: Of the sweep.
        outcome: Of `gather`.
    """
    lines = [f"# {config.name}", ""]
    if outcome["missing"]:
        total = len(config.arms) * len(config.seeds)
        done = total - len(outcome["missing"])
        lines += [f"**{done} of {total} cells; missing: {', '.join(outcome['missing'])}**", ""]
    level = f"{config.bootstrap.level:.0%}"
    if shown_metrics(config):
        lines += [
            f"Mean over seeds ± their standard deviation, and a {level} interval over seeds and videos.",
            "",
            *_arms(config, outcome),
            "",
        ]
    if outcome["contrasts"]:
        lines += [
            "## Contrasts",
            "",
            f"Arm a minus arm b, question by question and seed by seed, with a {level} interval over seeds",
            f"and videos ({config.bootstrap.draws:,} draws); p by Holm over the contrasts of a family.",
            "",
            *_contrasts(outcome["contrasts"]),
            "",
        ]
    return [*lines, "## What the runs took", "", *_used(config, outcome["arms"]), *_lost(outcome["arms"]), ""]


def _arms(config: SweepConfig, outcome: Mapping[str, Any]) -> list[str]:
    metrics = _with_blind(shown_metrics(config), outcome["arms"])
    axes = _axes(config)
    rows = []
    for arm in outcome["arms"]:
        cells = [arm["arm"], *(str(arm["axes"].get(axis, "")) for axis in axes), str(len(arm["seeds"]))]
        rows.append([*cells, *(_mean(arm["metrics"].get(metric)) for metric in metrics)])
    if outcome["all_arms"]:
        every = [_interval(outcome["all_arms"].get(metric), "{:.3f}") for metric in metrics]
        rows.append(["mean of arms", *("" for _ in axes), "", *every])
    return _markdown(["arm", *axes, "seeds", *metrics], rows)


def _with_blind(shown: Sequence[Metric], arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of metrics, each with its blind one beside it."""
    names: list[str] = []
    for metric in shown:
        names.append(metric.name)
        if any(metric.blind.name in arm["metrics"] for arm in arms):
            names.append(metric.blind.name)
    return list(dict.fromkeys(names))


def _axes(config: SweepConfig) -> list[str]:
    return list(dict.fromkeys(axis for arm in config.arms.values() for axis in arm.axes))


def _mean(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["mean"] is None:
        return ""
    text = f"{metric['mean']:.3f}"
    if metric["sd"] is not None:
        text += f" ± {metric['sd']:.3f}"
    interval = metric.get("interval")
    if interval and interval["low"] is not None:
        text += f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return text


def _interval(interval: Mapping[str, Any] | None, form: str) -> str:
    """Mean and limits."""
    if interval is None:
        return ""
    text = form.format(interval["mean"])
    if interval["low"] is None:
        return text
    return f"{text} [{form.format(interval['low'])}, {form.format(interval['high'])}]"


def _contrasts(contrasts: Sequence[Mapping[str, Any]]) -> list[str]:
    header = [
        "contrast",
        "metric",
        "questions",
        "videos",
        "seeds",
        "a - b",
        "by seed",
        "p",
        "p (Holm)",
        "family",
    ]
    return _markdown(header, [_contrast(each) for each in contrasts])


def _contrast(each: Mapping[str, Any]) -> list[str]:
    interval = each["interval"]
    questions = f"{each['questions']:,}" + (f" ({each['unpaired']} unpaired)" if each["unpaired"] else "")
    return [
        f"{each['name']}: {each['a']} - {each['b']}",
        each["metric"],
        questions,
        f"{each['videos']:,}",
        str(len(each["seeds"])),
        _interval(interval, "{:+.3f}"),
        ", ".join(f"{value:+.3f}" for value in each["by_seed"].values()),
        _p(interval["p"] if interval else None),
        _p(each["p_holm"]),
        each["family"],
    ]


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _used(config: SweepConfig, arms: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ["arm", "steps", "samples", "tokens", "supervised tokens", "FLOPs"]
    rows = []
    for arm in arms:
        used = [arm["used"][str(seed)] for seed in arm["seeds"]]
        if used:
            names = ("steps", "samples", "tokens", "supervised_tokens")
            counts = [_range([each[name] for each in used]) for name in names]
            flops = sum(each["flops"] for each in used) / len(used)
            rows.append([arm["arm"], *counts, f"{flops:.3g}"])
    stages = ", ".join(stage.name for stage in config.stages)
    return [f"All stages of a cell together ({stages}).", "", *_markdown(header, rows)]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _lost(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    lost = {
        f"{arm['arm']} seed {seed}, {name.split()[0].rpartition('/')[0]}": count
        for arm in arms
        for name, metric in arm["metrics"].items()
        for seed, count in metric["lost"].items()
        if count
    }
    if not lost:
        return []
    return [
        "",
        "Questions without an answer, left out: " + "; ".join(f"{key}: {n}" for key, n in lost.items()),
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
