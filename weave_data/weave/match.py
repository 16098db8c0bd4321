"""Prefixes of a plan that make recipes comparable: equal clips, equal samples or equal tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import MatchConfig
from weave_data.errors import ConfigError

__all__ = ["match_plan"]


def match_plan(plan: pa.Table, rule: MatchConfig, *, recipe: str) -> tuple[pa.Table, int]:
    """Keep the first train rows of an epoch's plan; val stays whole.

    A plan's order is a keyed permutation, so a prefix is an unbiased sample of it, and a smaller count
    gives a prefix of what a larger one gives.

    Args:
        plan: PLAN_SCHEMA of one epoch, train before val.
        rule: What to count, and how much of it.
        recipe: Name, for messages.

    Returns:
        The rows kept, and the number of clips in those that were cut off.

    Raises:
        ConfigError: The plan holds less than `match.count`.

    Source:
        VideoWeave compares recipes over the same videos (its figure 1) or the same number of samples
        (figure 2). Differs: the subsets are nested and seeded.
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
