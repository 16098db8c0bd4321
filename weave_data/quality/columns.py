"""The columns thresholds are asked of: measured ones, and those that follow from them or the catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import AccountingError

__all__ = ["NULLABLE_COLUMNS", "SIMILARITY_SCHEMA", "VIDEO_COLUMNS", "measured", "quality_column"]

VIDEO_COLUMNS = frozenset({"duration_seconds", "frame_rate", "motion"})
"""Of a picture these say nothing."""

NULLABLE_COLUMNS = frozenset({"caption_similarity"})
"""Not known of every clip; a threshold asks only those of which they are."""

SIMILARITY_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("caption_similarity", pa.float32()),  # -1..1; null: the clip has no caption
    ]
)


def measured(clips: pa.Table, quality: pa.Table) -> pa.Table:
    """Rows of `quality` in the order of `clips`.

    Args:
        clips: CLIP_SCHEMA[n].
        quality: QUALITY_SCHEMA, any order; more rows and more columns are fine.

    Raises:
        AccountingError: A clip was never measured, or was twice.
    """
    known = quality["clip_id"].combine_chunks()
    rows = pc.index_in(clips["clip_id"], value_set=known)
    if rows.null_count:
        lost = clips["clip_id"].filter(pc.is_null(rows))[0].as_py()
        raise AccountingError(
            f"clip {lost}: not measured, as {rows.null_count - 1} others; pass the quality rows of every "
            "decoded clip"
        )
    if pc.count_distinct(known).as_py() != len(known):
        raise AccountingError("the quality table names a clip twice; pass one row a clip")
    return quality.take(rows)


def quality_column(name: str, clips: pa.Table, quality: pa.Table) -> npt.NDArray[Any]:
    """One column as numbers.

    Args:
        name: One of `config.quality.FILTER_COLUMNS`.
        clips: CLIP_SCHEMA[n].
        quality: QUALITY_SCHEMA[n], in the order of `clips`, with the column `caption_similarity` where
            it was measured.

    Returns:
        float32[n], or int64[n] for counts (bytes, characters, px). NaN where `caption_similarity` is null.

    Raises:
        AccountingError: A value is not a number.
    """
    match name:
        case "size_bytes":
            values = clips["size_bytes"].to_numpy()
        case "caption_chars":
            values = pc.utf8_length(clips["caption"]).to_numpy().astype(np.int64)
        case "aspect":
            height = np.maximum(quality["height"].to_numpy(), 1)
            values = (quality["width"].to_numpy() / height).astype(np.float32)
        case "width" | "height":
            values = quality[name].to_numpy().astype(np.int64)
        case "caption_similarity":
            if name not in quality.column_names:
                return np.full(len(clips), np.nan, np.float32)
            return np.asarray(quality[name].to_numpy(), dtype=np.float32)
        case _:
            values = quality[name].to_numpy()
    is_odd = np.isnan(values)
    if is_odd.any():
        clip = clips["clip_id"][int(np.flatnonzero(is_odd)[0])].as_py()
        raise AccountingError(f"clip {clip}: its {name} is not a number; please report this")
    return values
