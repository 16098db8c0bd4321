"""`figure.png`: one metric of all cells against an axis."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from weave_train.sweep.config import FigureConfig
from weave_train.whole_files import write_whole

__all__ = ["draw_figure"]

_LABELS = {
    "samples": "training samples",
    "flops": "training FLOPs",
    "supervised_tokens": "supervised training tokens",
}


def draw_figure(path: Path, points: Sequence[Mapping[str, Any]], *, figure: FigureConfig, title: str) -> None:
    """Draw every cell as a dot, the mean over seeds with their standard deviation, a line for each group.

    Args:
        path: PNG; replaced whole.
        points: Of `gather`.
        figure: What is drawn.
        title: Above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    known = [point for point in points if point["y"] is not None]
    picture = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.add_subplot()
    for group in dict.fromkeys(point["group"] for point in known):
        _draw_group(axes, group, [point for point in known if point["group"] == group], figure)
    blind = [point["blind"] for point in known if point["blind"] is not None]
    if blind:
        axes.axhline(mean(blind), color="grey", linestyle="--", linewidth=1.0, label="no frames, mean of all")
    _scale(axes, [point["x"] for point in known], figure)
    axes.set_xlabel(_LABELS.get(figure.x, figure.x))
    axes.set_ylabel(figure.y)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if known:
        axes.legend(frameon=False, fontsize=8)
    sink = io.BytesIO()
    # no time and no version in the file: equal points give equal bytes
    picture.savefig(sink, format="png", metadata={"Software": None})
    write_whole(path, sink.getvalue())


def _draw_group(axes: Any, group: Any, points: Sequence[Mapping[str, Any]], figure: FigureConfig) -> None:
    """One line through all arms where x is an axis of theirs; else a line for each arm, in one colour."""
    arms = list(dict.fromkeys(point["arm"] for point in points))
    is_curve = figure.x in _LABELS
    label = group if figure.group == "arm" else f"{figure.group} {group}"
    colour = None
    for line in [[arm] for arm in arms] if is_curve else [arms]:
        drawn = _means([point for point in points if point["arm"] in line])
        xs, ys, spreads = ([each[part] for each in drawn] for part in range(3))
        container = axes.errorbar(
            xs,
            ys,
            yerr=spreads,
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
            color=colour,
            label=label,
        )
        colour, label = container.lines[0].get_color(), None
        if is_curve and len(arms) > 1:
            axes.annotate(line[0], (xs[-1], ys[-1]), xytext=(5, 4), textcoords="offset points", fontsize=7)
    axes.plot([each["x"] for each in points], [each["y"] for each in points], ".", color=colour, alpha=0.4)


def _means(points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """x, y and y's standard deviation over seeds of each arm and step, in the order of x."""
    places: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for point in points:
        places.setdefault((point["arm"], point["step"]), []).append(point)
    return sorted(
        (
            mean(each["x"] for each in cells),
            mean(each["y"] for each in cells),
            stdev([each["y"] for each in cells]) if len(cells) > 1 else 0.0,
        )
        for cells in places.values()
    )


def _scale(axes: Any, xs: Sequence[float], figure: FigureConfig) -> None:
    """Powers of two (L) are as far apart as their exponents, and the only ticks."""
    values = sorted(set(xs))
    is_doubling = len(values) > 2 and all(
        x >= 1 and x == int(x) and int(x) & (int(x) - 1) == 0 for x in values
    )
    if figure.x in _LABELS:
        return
    if is_doubling:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
