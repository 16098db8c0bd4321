"""Recipes become plans: which clips, frames, captions and prompt each sample has, and in which order.

    eligible    clips long enough for the recipe; the others become rejects
    rows        groups of clips -> plan rows, columns all the way
    identity    content hash of each row, and the order that hash gives
    plan        the whole plan in shard order, and its accounting

A plan is a pure function of the catalog, the stored frames' lengths, the groups and the recipe. It
holds the final text; materialising it moves bytes and decides nothing.
"""

from weave_data.weave.eligible import eligible_clips
from weave_data.weave.plan import count_woven, make_plan

__all__ = ["count_woven", "eligible_clips", "make_plan"]
