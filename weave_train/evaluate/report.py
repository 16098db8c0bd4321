"""`results.md` and `results.png`: what a person looks at."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from weave_data.foreign_text import visible

__all__ = ["results_markdown", "results_png"]

_MANY_VALUES = 24


def results_markdown(results: Mapping[str, Any]) -> str:
    """Tables: modes by metric, then every tag, then what was lost."""
    modes = results["modes"]
    lines = [
        f"# {_cell(results['task'])}: {_cell(results['model'])}",
        "",
        f"{results['num_frames']} frames a video; intervals hold 95 of 100 bootstrap draws over videos.",
        "",
    ]
    lines += _table("mode", {mode: (found["count"], found["scores"]) for mode, found in modes.items()})
    for mode, found in modes.items():
        for tag, values in found["by"].items():
            rows = {value: (row["count"], row["scores"]) for value, row in values.items()}
            lines += ["", f"## {_cell(mode)}, by {_cell(tag)}", "", *_table(tag, rows)]
    notes = _notes(results)
    if notes:
        lines += ["", "## Not answered", "", *notes]
    return "\n".join(lines) + "\n"


def _notes(results: Mapping[str, Any]) -> list[str]:
    notes = []
    if missing := results.get("missing_kinds"):
        notes.append(
            f"* kinds whose files are not there, so the score is one of a part: {', '.join(missing)}"
        )
    notes += [f"* left out, {what}: {count:,}" for what, count in results.get("left_out", {}).items()]
    notes += [f"* rows of the file, {reason}: {count}" for reason, count in results["lost_rows"].items()]
    for mode, found in results["modes"].items():
        notes += [f"* {mode}, {_cell(reason)}: {count}" for reason, count in found["lost"].items()]
        if found["unparsed"]:
            notes.append(f"* {mode}, answers that name no option, counted as wrong: {found['unparsed']}")
    return notes


def _table(name: str, rows: Mapping[str, tuple[int, Mapping[str, Any]]]) -> list[str]:
    metrics = list(dict.fromkeys(metric for _, scores in rows.values() for metric in scores))
    lines = [
        f"| {_cell(name)} | questions | {' | '.join(metrics)} |",
        f"|---|---:|{'---:|' * len(metrics)}",
    ]
    for value, (count, scores) in rows.items():
        cells = [_interval(scores[metric]) if metric in scores else "" for metric in metrics]
        lines.append(f"| {_cell(value)} | {count:,} | {' | '.join(cells)} |")
    return lines


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _cell(text: object) -> str:
    """Text of others within a table: nothing in it ends a cell, acts on a terminal or is HTML."""
    plain = visible(str(text)).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def results_png(results: Mapping[str, Any]) -> bytes:
    """Bars of each mode with intervals: over everything, and by the tag with the fewest values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    modes, metric = results["modes"], _main_metric(results)
    groups = _groups(results)
    figure = Figure(figsize=(max(5.0, 1.4 + 0.9 * len(groups)), 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(len(modes), 1)
    for place, (mode, found) in enumerate(modes.items()):
        positions, means, below, above = [], [], [], []
        for index, (tag, value) in enumerate(groups):
            scores = (
                found["scores"] if tag is None else found["by"].get(tag, {}).get(value, {}).get("scores", {})
            )
            if metric not in scores:
                continue
            row = scores[metric]
            positions.append(index + (place - (len(modes) - 1) / 2) * width)
            means.append(row["mean"])
            below.append(max(row["mean"] - row["low"], 0.0))
            above.append(max(row["high"] - row["mean"], 0.0))
        axes.bar(positions, means, width * 0.92, yerr=[below, above], capsize=2, label=mode)
    labels = ["all" if tag is None else visible(value)[:24] for tag, value in groups]
    axes.set_xticks(range(len(groups)), labels, rotation=30 if len(groups) > 4 else 0, ha="right")
    if len(groups) <= 4:
        axes.set_xticks(range(len(groups)), labels, ha="center")
    axes.set_ylabel(metric)
    axes.set_ylim(bottom=0.0)
    title = visible(f"{results['task']}: {results['model']}")
    axes.set_title(title if len(title) <= 70 else f"...{title[-67:]}", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _main_metric(results: Mapping[str, Any]) -> str:
    names = [name for found in results["modes"].values() for name in found["scores"]]
    for name in ("likelihood", "generated", "cider", "wups_0.9", "exact"):
        if name in names:
            return name
    return names[0] if names else "score"


def _groups(results: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    tags: dict[str, dict[str, None]] = {}
    for found in results["modes"].values():
        for tag, values in found["by"].items():
            tags.setdefault(tag, {}).update(dict.fromkeys(values))
    few = sorted((len(values), tag) for tag, values in tags.items() if 1 < len(values) <= _MANY_VALUES)
    chosen = [(few[0][1], value) for value in tags[few[0][1]]] if few else []
    return [(None, ""), *chosen]
