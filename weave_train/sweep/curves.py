"""`curves.png`: the training loss of every arm, a panel for each stage."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weave_train.numbers import read_metrics
from weave_train.sweep.cells import Cell, CellStage
from weave_train.whole_files import write_whole

__all__ = ["draw_curves", "mean_curve"]

_WINDOWS = 60


def draw_curves(path: Path, cells: Sequence[Cell], *, title: str) -> None:
    """Draw the mean over seeds of each arm's loss against the supervised tokens it has seen in a stage.

    Losses of other texts do not compare: in a stage that reads the arm's recipe each arm has its own rows.

    Args:
        path: PNG; replaced whole.
        cells: Whose runs are done.
        title: Above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(stage.name for cell in cells for stage in cell.stages))
    picture = Figure(figsize=(1 + 5 * max(1, len(names)), 4), dpi=120, layout="constrained")
    FigureCanvasAgg(picture)
    for place, name in enumerate(names, 1):
        axes = picture.add_subplot(1, len(names), place)
        arms: dict[str, list[CellStage]] = {}
        for cell in cells:
            arms.setdefault(cell.arm, []).extend(stage for stage in cell.stages if stage.name == name)
        for arm, stages in arms.items():
            tokens, losses = mean_curve(stages)
            if len(tokens):
                axes.plot(tokens, losses, linewidth=1.2, label=arm)
        axes.set_xlabel("supervised tokens")
        axes.set_ylabel("loss per supervised token")
        axes.set_title(f"stage {name}", fontsize=9)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    picture.suptitle(title, fontsize=10)
    sink = io.BytesIO()
    # no time and no version in the file: equal runs give equal bytes
    picture.savefig(sink, format="png", metadata={"Software": None})
    write_whole(path, sink.getvalue())


def mean_curve(stages: Sequence[CellStage]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Supervised tokens and losses of one arm's stage, mean over its seeds, in at most 60 windows of steps.

    Returns:
        Two float64[windows]: tokens seen until a window's end, mean loss over a window's supervised tokens. A
        step without a finite loss counts as seen and has no part in the mean; nan where no seed has one.
    """
    runs = []
    for stage in stages:
        prefix = stage.config.stage.capitalize()
        runs.append(
            np.array(
                [
                    (line[f"{prefix}/Supervised Tokens"], line[f"{prefix}/Loss (Raw)"])
                    for line in read_metrics(stage.run_dir)
                ],
                dtype=np.float64,  # None becomes nan
            ).reshape(-1, 2)
        )
    length = min((len(run) for run in runs), default=0)
    if not length:
        return np.zeros(0), np.zeros(0)
    steps = np.stack([run[:length] for run in runs])
    ends = np.unique(np.linspace(0, length, min(_WINDOWS, length) + 1).round().astype(int))
    seen = steps[:, :, 0].cumsum(axis=1).mean(axis=0)[ends[1:] - 1]
    known = np.where(np.isfinite(steps[:, :, 1]), steps[:, :, 0], 0.0)
    weighed = np.nan_to_num(steps[:, :, 1]) * known
    of_windows = [np.add.reduceat(each, ends[:-1], axis=1) for each in (weighed, known)]
    with np.errstate(invalid="ignore"):
        by_seed = np.ma.masked_invalid(of_windows[0] / of_windows[1])
    return seen, by_seed.mean(axis=0).filled(np.nan)
