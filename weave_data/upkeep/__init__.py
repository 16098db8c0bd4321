"""Living with a data set: what a build left behind, explained, compared, cleaned and corrected.

    explain       where every frame and sentence of a sample came from
    diff          what differs between two outputs or two builds of a recipe, and why
    gc            what no manifest refers to
    run_records   `runs/`: what a build says of itself while it lives

Everything is answered from the store: manifests, plans, catalogs and `runs/`.
"""

from weave_data.upkeep.diff import OutputDiff, RecipeDiff, diff_manifests, diff_outputs
from weave_data.upkeep.explain import Explanation, explain_sample
from weave_data.upkeep.gc import GcReport, collect_garbage, delete_garbage
from weave_data.upkeep.run_records import BEAT_SECONDS, RunRecord, check_no_run, read_runs

__all__ = [
    "BEAT_SECONDS",
    "Explanation",
    "GcReport",
    "OutputDiff",
    "RecipeDiff",
    "RunRecord",
    "check_no_run",
    "collect_garbage",
    "delete_garbage",
    "diff_manifests",
    "diff_outputs",
    "explain_sample",
    "read_runs",
]
