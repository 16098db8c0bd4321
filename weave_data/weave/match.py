"""What makes recipes comparable: the same clips, equal samples or equal tokens.

Clips are chosen before they are woven, by a keyed permutation of their ids that knows nothing of L; samples
and tokens are counted off the plan, of which a prefix is kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import MatchConfig, RecipeConfig
from weave_data.errors import ConfigError
from weave_data.keyed_hash import keyed_hashes
from weave_data.weave.eligible import eligible_clips

__all__ = ["match_plan", "match_videos"]


def match_videos(
    recipe: RecipeConfig, clips: pa.Table, splits: pa.Array, frames: pa.Table
) -> npt.NDArray[np.bool_]:
    """Choose the train clips of a recipe with `match: {by: videos}`, the same ones for every L.

    Candidates are the train clips with all of the sample's T frames, as L = 1 needs them: which clips have
    T / L frames would depend on L. The first `count` of their keyed permutation are kept, so that a smaller
    count keeps a subset, and val is kept whole.

    Args:
        recipe: Its match, seed and frames.
        clips: CLIP_SCHEMA[n].
        splits: string[n].
        frames: `clip_id`, `source_frames` and `source_seconds` of at least these clips.

    Returns:
        bool[n]: the clip is kept.

    Raises:
        ConfigError: There are fewer candidates than `match.count`.

    Source:
        VideoWeave's figure 1: the same 160,000 videos woven with L in 1, 2, 4, 8, 16.
    """
    rule = recipe.match
    if rule is None or rule.by != "videos" or recipe.strategy == "given":
        return np.ones(len(clips), np.bool_)
    alone = recipe.model_copy(update={"strategy": "single", "clips_per_sample": 1, "frames_per_clip": None})
    is_train = pc.equal(splits, "train")
    found, _ = eligible_clips(clips.filter(is_train), frames, recipe=alone)
    ids = found["clip_id"].combine_chunks()
    if len(ids) < rule.count:
        raise ConfigError(
            f"recipes.{recipe.name}.match: {rule.count} videos asked for, the train split has {len(ids)} "
            f"with {recipe.frames_per_sample} frames; lower match.count or give more clips"
        )
    hashes = keyed_hashes(ids, key=f"match:{recipe.seed}")
    names = pc.rank(ids, sort_keys="ascending").to_numpy(zero_copy_only=False)
    chosen = ids.take(pa.array(np.lexsort((names, hashes))[: rule.count]))
    is_kept = pc.or_(pc.invert(is_train), pc.is_in(clips["clip_id"].combine_chunks(), value_set=chosen))
    return np.asarray(is_kept)


def match_plan(plan: pa.Table, rule: MatchConfig, *, recipe: str) -> tuple[pa.Table, int]:
    """Keep the first train rows of an epoch's plan; val stays whole.

    A plan's order is a keyed permutation, so a prefix is an unbiased sample of it, and a smaller count
    gives a prefix of what a larger one gives.

    Args:
        plan: PLAN_SCHEMA of one epoch, train before val.
        rule: What to count, and how much of it; videos only of samples that a source gives.
        recipe: Name, for messages.

    Returns:
        The rows kept, and the number of clips in those that were cut off.

    Raises:
        ConfigError: The plan holds less than `match.count`.

    Source:
        VideoWeave compares recipes over the same number of samples (its figure 2). Differs: the subsets
        are nested and seeded.
    """
    num_train = pc.sum(pc.equal(plan["split"], "train")).as_py() or 0
    train = plan.slice(0, num_train)
    amounts = _amounts(train, rule)
    total = int(amounts.sum())
    if total < rule.count:
        raise ConfigError(
            f"recipes.{recipe}.match: {rule.count} {rule.by} asked for, the plan's train split has {total}; "
            "lower match.count or give more clips"
        )
    num_kept = int(np.searchsorted(np.cumsum(amounts), rule.count, side="right"))
    if num_kept == 0:
        raise ConfigError(
            f"recipes.{recipe}.match: the first sample alone takes {int(amounts[0])} {rule.by}, "
            f"match.count is {rule.count}; raise it"
        )
    cut = plan.slice(num_kept, num_train - num_kept)
    num_cut = int(pc.sum(pc.list_value_length(cut["clips"])).as_py() or 0)
    return pa.concat_tables([plan.slice(0, num_kept), plan.slice(num_train)]), num_cut


def _amounts(train: pa.Table, rule: MatchConfig) -> npt.NDArray[np.int64]:
    """int64[rows]: what each row counts for."""
    match rule.by:
        case "samples":
            return np.ones(train.num_rows, dtype=np.int64)
        case "videos":
            return np.asarray(pc.list_value_length(train["clips"]).to_numpy(), dtype=np.int64)
        case "tokens":
            text = np.ceil(train["text_bytes"].to_numpy() / rule.bytes_per_token)
            frames = train["num_frames"].to_numpy().astype(np.int64) * rule.tokens_per_frame
            return frames + text.astype(np.int64)
