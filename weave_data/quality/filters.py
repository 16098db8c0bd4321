"""Thresholds over measured columns, and clips with the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config.quality import FILTER_COLUMNS, FiltersConfig
from weave_data.errors import AccountingError
from weave_data.quality.columns import NULLABLE_COLUMNS, VIDEO_COLUMNS, measured, quality_column
from weave_data.quality.reasons import FilterReason
from weave_data.quality.rejects import filter_rejects
from weave_data.records import REJECT_SCHEMA, StageCount

__all__ = ["apply_filters"]

STAGE = "filter"

Bools = npt.NDArray[np.bool_]


def apply_filters(
    clips: pa.Table, quality: pa.Table, filters: FiltersConfig
) -> tuple[pa.Table, pa.Table, StageCount]:
    """Split clips into those within every threshold and rejects.

    A clip's reason is the first that applies, in the order of `FilterReason`. Duplicates are looked for
    among the clips that pass every threshold, so that no clip goes for the sake of one that is not there.

    Args:
        clips: CLIP_SCHEMA of decoded clips, in catalog order.
        quality: QUALITY_SCHEMA of at least these clips, any order; a column `part` names the part of
            each reject where it is there; a threshold on `caption_similarity` needs that column.
        filters: Thresholds; bounds are inclusive, compared in the column's own type.

    Returns:
        The clips kept, in their order; REJECT_SCHEMA (stage `filter`, every recipe) of the others; their
        count, exact duplicates as `duplicates` and thresholds as `filtered`.

    Raises:
        AccountingError: A clip or a column with a threshold was not measured, or a value is not a number.
    """
    rows = measured(clips, quality)
    parts = rows["part"] if "part" in rows.column_names else None
    is_kept = np.ones(len(clips), np.bool_)
    tables, filtered = [], {}
    for reason, fails, details in _thresholds(clips, rows, filters):
        goes = np.flatnonzero(fails & is_kept)
        if len(goes):
            is_kept[goes] = False
            filtered[reason.value] = len(goes)
            tables.append(
                filter_rejects(clips, goes, reason, details.take(pa.array(goes)), stage=STAGE, parts=parts)
            )
    num_duplicates = 0
    if filters.exact_duplicates == "drop":
        goes, first = _copies(rows["sha256"], is_kept)
        num_duplicates = len(goes)
        is_kept[goes] = False
        kept_ids = clips["clip_id"].take(pa.array(first))
        details = pc.binary_join_element_wise("the same bytes as clip ", kept_ids, "")
        tables.append(
            filter_rejects(clips, goes, FilterReason.EXACT_DUPLICATE, details, stage=STAGE, parts=parts)
        )
    rejects = pa.concat_tables([REJECT_SCHEMA.empty_table(), *tables])
    rejects = rejects.sort_by([("part", "ascending"), ("clip_id", "ascending")])
    count = StageCount(STAGE, len(clips), int(is_kept.sum()), filtered, {}, num_duplicates)
    return clips.filter(pa.array(is_kept)), rejects, count


def _thresholds(
    clips: pa.Table, rows: pa.Table, filters: FiltersConfig
) -> Iterator[tuple[FilterReason, Bools, pa.ChunkedArray]]:
    """Each bound that is set: its reason, which clips fail it (bool[n]), and what to tell of each."""
    is_video = pc.equal(clips["media"], "video").to_numpy()
    for name in FILTER_COLUMNS:
        bounds = filters.range_of(name)
        if not bounds.is_bounded:
            continue
        if name in NULLABLE_COLUMNS and name not in rows.column_names:
            raise AccountingError(f"filters.{name} is set and was not measured; please report this")
        values = quality_column(name, clips, rows)
        asked: Any = is_video if name in VIDEO_COLUMNS else True
        for word, bound in (("min", bounds.min), ("max", bounds.max)):
            if bound is None:
                continue
            # numpy compares in the column's type: 0.1 in float32 is not above a bound of 0.1
            fails = (values < bound if word == "min" else values > bound) & asked
            side = "below" if word == "min" else "above"
            told = f" is {side} filters.{name}.{word} {bound:g}"
            details = pc.binary_join_element_wise(
                f"{name} ", pc.cast(pa.array(values), pa.string()), told, ""
            )
            yield FilterReason(f"{side}_{word}_{name}"), fails, details


def _copies(sums: pa.ChunkedArray, is_kept: Bools) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows with the bytes of an earlier kept row, and which row that is."""
    kept = np.flatnonzero(is_kept)
    codes = sums.take(pa.array(kept)).combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    originals = first[inverse]
    is_copy = originals != np.arange(len(kept))
    return kept[is_copy], kept[originals[is_copy]]
