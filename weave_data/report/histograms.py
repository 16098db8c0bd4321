"""Histograms of measured columns, with what the thresholds cut off, as numbers a template draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.config.quality import FILTER_COLUMNS
from weave_data.quality import quality_column

__all__ = ["Bar", "Histogram", "Mark", "histogram", "overlaid", "quality_histograms"]

WIDTH, HEIGHT = 300.0, 84.0  # of the drawing, in its own units
_BINS = 30
_UNITS = {
    "size_bytes": "bytes",
    "duration_seconds": "s",
    "frame_rate": "frames/s",
    "width": "px",
    "height": "px",
}


@dataclass(frozen=True)
class Bar:
    """One bar; `is_cut` when its values lie outside the thresholds."""

    x: float
    y: float
    width: float
    height: float
    is_cut: bool


@dataclass(frozen=True)
class Mark:
    """A threshold's line."""

    x: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """What is drawn of a column, and what is told beside it."""

    name: str
    unit: str
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    low: str
    middle: str
    high: str
    median: str
    num_values: int
    num_cut: int
    is_log: bool


def quality_histograms(
    clips: pa.Table, quality: pa.Table, filters: Mapping[str, Mapping[str, float | None]]
) -> list[Histogram]:
    """One histogram for each column that filters can ask for and that is known of some clip.

    Args:
        clips: CLIP_SCHEMA[n].
        quality: QUALITY_SCHEMA[n], in the same order, and `caption_similarity` where it was measured.
        filters: `min` and `max` by column, as a manifest's configuration holds them.
    """
    if not len(clips):
        return []
    found = []
    for name in FILTER_COLUMNS:
        bounds = filters.get(name) or {}
        values = quality_column(name, clips, quality).astype(np.float64)
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        found.append(histogram(name, values, low=bounds.get("min"), high=bounds.get("max")))
    return found


def histogram(
    name: str, values: npt.NDArray[np.float64], *, low: float | None = None, high: float | None = None
) -> Histogram:
    """Thirty bars over the span of values and thresholds.

    Args:
        name: Of the column.
        values: float64[n], n at least 1.
        low: Threshold below which clips go.
        high: Threshold above which they go.
    """
    ends = [float(values.min()), float(values.max()), *(b for b in (low, high) if b is not None)]
    start, stop = min(ends), max(ends)
    is_log = start > 0 and stop / start > 200

    def scaled(value: Any) -> Any:
        return np.log10(value) if is_log else value

    first, last = float(scaled(start)), float(scaled(stop))
    if first == last:
        first, last = first - 0.5, last + 0.5
    edges = np.linspace(first, last, _BINS + 1)
    outside = np.zeros(len(values), np.bool_)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    spots = np.asarray(scaled(values))
    counts = [np.histogram(spots[rows], edges)[0] for rows in (~outside, outside)]
    middle = (first + last) / 2
    marks = [
        Mark((float(scaled(bound)) - first) / (last - first) * WIDTH, f"{word} {_short(bound)}")
        for word, bound in (("min", low), ("max", high))
        if bound is not None
    ]
    return Histogram(
        name=name,
        unit=_UNITS.get(name, ""),
        bars=_stacked(counts[0], counts[1]),
        marks=tuple(marks),
        low=_short(start) if start < stop else "",
        middle=_short(10**middle if is_log else middle),
        high=_short(stop) if start < stop else "",
        median=_short(float(np.median(values))),
        num_values=len(values),
        num_cut=int(outside.sum()),
        is_log=is_log,
    )


def overlaid(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Histogram:
    """Two sets of numbers over one axis; `theirs` as the bars that are `is_cut`, drawn behind."""
    both = np.array([*ours, *theirs])
    first, last = float(both.min()), float(both.max())
    if first == last:
        first, last = first - 0.5, last + 0.5
    edges = np.linspace(first, last, _BINS + 1)
    parts = [np.histogram(np.array(part), edges)[0] / max(1, len(part)) for part in (theirs, ours)]
    top = max(float(part.max()) for part in parts) or 1.0
    step = WIDTH / _BINS
    bars = tuple(
        Bar(i * step, HEIGHT * (1 - share / top), step - 1, HEIGHT * share / top, is_theirs)
        for part, is_theirs in zip(parts, (True, False), strict=True)
        for i, share in enumerate(part.tolist())
        if share
    )
    middle = _short((first + last) / 2)
    median = _short(float(np.median(np.array(ours))))
    return Histogram(
        name, "", bars, (), _short(first), middle, _short(last), median, len(ours), 0, is_log=False
    )


def _stacked(kept: npt.NDArray[np.int64], cut: npt.NDArray[np.int64]) -> tuple[Bar, ...]:
    top = float((kept + cut).max()) or 1.0
    step = WIDTH / _BINS
    bars = []
    for place, (inside, outside) in enumerate(zip(kept.tolist(), cut.tolist(), strict=True)):
        base = HEIGHT
        for count, is_cut in ((inside, False), (outside, True)):
            if count:
                size = max(1.0, HEIGHT * count / top)
                base -= size
                bars.append(Bar(place * step, max(0.0, base), step - 1, size, is_cut))
    return tuple(bars)


def _short(value: float) -> str:
    """Three significant digits, thousands as k and M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{math.floor(value * 1000 + 0.5) / 1000:.3g}"
