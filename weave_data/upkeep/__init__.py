"""Living with a data set: what a build left behind, explained, compared, cleaned and corrected.

    explain       where every frame and sentence of a sample came from
    diff          what differs between two outputs or two builds of a recipe, and why
    gc            what no manifest refers to
    status        how far a build is; binding what it waits for; inventory the listing behind both
    retry         refusals taken back
    remove        clips taken down; tombstones keep them out, holders finds them, rewriting leaves them out
    run_records   `runs/`: what a build says of itself while it lives

Everything is answered from the store: manifests, plans, catalogs and `runs/`.
"""

from weave_data.upkeep.diff import OutputDiff, RecipeDiff, diff_manifests, diff_outputs
from weave_data.upkeep.explain import Explanation, explain_sample
from weave_data.upkeep.gc import GcReport, collect_garbage, delete_garbage
from weave_data.upkeep.remove import Removal, find_removal, remove_clips
from weave_data.upkeep.retry import Retry, catalog_round, retry_clips, retry_identity, retry_rounds
from weave_data.upkeep.run_records import BEAT_SECONDS, RunRecord, check_no_run, read_runs
from weave_data.upkeep.status import OutputStatus, StageStatus, read_status
from weave_data.upkeep.tombstones import removed_ids

__all__ = [
    "BEAT_SECONDS",
    "Explanation",
    "GcReport",
    "OutputDiff",
    "OutputStatus",
    "RecipeDiff",
    "Removal",
    "Retry",
    "RunRecord",
    "StageStatus",
    "catalog_round",
    "check_no_run",
    "collect_garbage",
    "delete_garbage",
    "diff_manifests",
    "diff_outputs",
    "explain_sample",
    "find_removal",
    "read_runs",
    "read_status",
    "remove_clips",
    "removed_ids",
    "retry_clips",
    "retry_identity",
    "retry_rounds",
]
