"""Living with a data set: what a build left behind, explained, compared, cleaned and corrected.

    explain   where every frame and sentence of a sample came from
    diff      what differs between two outputs or two builds of a recipe, and why

Everything is answered from the store: manifests, plans, catalogs and `runs/`.
"""

from weave_data.upkeep.diff import OutputDiff, RecipeDiff, diff_manifests, diff_outputs
from weave_data.upkeep.explain import Explanation, explain_sample

__all__ = [
    "Explanation",
    "OutputDiff",
    "RecipeDiff",
    "diff_manifests",
    "diff_outputs",
    "explain_sample",
]
