"""Rejects of filtered clips, a column at a time: a threshold may refuse half a catalog."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.quality.reasons import FilterReason
from weave_data.records import REJECT_SCHEMA

__all__ = ["filter_rejects"]


def filter_rejects(
    clips: pa.Table,
    rows: npt.NDArray[np.int64],
    reason: FilterReason,
    details: pa.Array | pa.ChunkedArray,
    *,
    stage: str,
    parts: pa.ChunkedArray | None = None,
    recipe: str | None = None,
) -> pa.Table:
    """REJECT_SCHEMA of some rows of `clips`.

    Args:
        clips: CLIP_SCHEMA[n].
        rows: int64[k], which of them go.
        reason: Why, the same for all.
        details: string[k], what to tell of each.
        stage: Which stage refuses them.
        parts: string[n], the part of each clip; empty where it is not known.
        recipe: For which recipe; None: for all.
    """
    places = pa.array(rows)
    size = len(rows)
    columns = {
        "stage": pa.repeat(stage, size),
        "part": pa.repeat("", size) if parts is None else parts.take(places),
        "recipe": pa.repeat(pa.scalar(recipe, pa.string()), size),
        "clip_id": clips["clip_id"].take(places),
        "key": clips["key"].take(places),
        "reason": pa.repeat(reason.value, size),
        "detail": details,
    }
    return pa.table(columns).cast(REJECT_SCHEMA)
