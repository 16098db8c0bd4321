"""Recipes become plans: which clips, frames, captions and prompt each sample has, and in which order.

    eligible    clips long enough for the recipe; the others become rejects
    portions    which clips go to which shape of sample, where a recipe mixes several
    frames      which frames of each clip, by the recipe's policy
    texts       prompt and captions -> conversations
    rows        groups of clips -> plan rows, columns all the way
    given       samples that the source gives ready made -> the same rows
    identity    content hash of each row, and the order that hash gives
    plan        the whole plan in shard order, and its accounting
    match       the clips, or the prefix of the plan, that make recipes comparable

A plan is a pure function of the catalog, the stored frames' lengths, the groups and the recipe. It
holds the final text; materialising it moves bytes and decides nothing.
"""

from weave_data.weave.eligible import eligible_clips
from weave_data.weave.frames import frame_asks
from weave_data.weave.given import GivenSamples, given_samples, split_keys
from weave_data.weave.match import match_plan, match_videos
from weave_data.weave.plan import count_woven, make_plan, plan_members
from weave_data.weave.portions import split_portions

__all__ = [
    "GivenSamples",
    "count_woven",
    "eligible_clips",
    "frame_asks",
    "given_samples",
    "make_plan",
    "match_plan",
    "match_videos",
    "plan_members",
    "split_keys",
    "split_portions",
]
