"""Arms times seeds: built once, trained, asked, compared. `weave-train sweep FILE`.

config -> builds -> cells                     a file becomes runs, all of it checked before any work
states, published                             what a cell has done, by its own files; without weights
children, rooms -> run_cell -> launchers      commands as processes, here or as tasks of Ray
metric, answers, statistics -> outcome        scores by question; intervals over seeds and videos
table, figure, curves                         the outcome for people
plan_lines, run_sweep                         what would happen; what happens
"""

from weave_train.sweep.cells import Cell, CellStage, Sweep, load_cells
from weave_train.sweep.config import SweepConfig, load_sweep
from weave_train.sweep.plan_lines import plan_lines
from weave_train.sweep.published import adopt_cells, publish_cells
from weave_train.sweep.run_sweep import run_sweep, write_outcome
from weave_train.sweep.states import Evaluated
from weave_train.sweep.statistics import Interval, bootstrap_interval, holm

__all__ = [
    "Cell",
    "CellStage",
    "Evaluated",
    "Interval",
    "Sweep",
    "SweepConfig",
    "adopt_cells",
    "bootstrap_interval",
    "holm",
    "load_cells",
    "load_sweep",
    "plan_lines",
    "publish_cells",
    "run_sweep",
    "write_outcome",
]
