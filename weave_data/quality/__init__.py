"""Which clips are worth weaving, from what decoding measured of them.

    reasons      why a clip is filtered, as an enum
    columns      the measured columns, and those that follow from them
    filters      thresholds and exact duplicates
    similarity   do captions describe their clips?
    duplicates   near duplicates dropped; which clips are copies of each other
    leakage      copies of a val clip in train

Thresholds are looked at after decoding: other thresholds decode nothing and measure nothing again.
Every clip that goes has one row of `records.REJECT_SCHEMA`, with the first reason that applies.
"""

from weave_data.quality.columns import SIMILARITY_SCHEMA, quality_column
from weave_data.quality.duplicates import drop_near_duplicates, duplicate_labels
from weave_data.quality.filters import apply_filters
from weave_data.quality.leakage import Leakage, check_leakage, drop_val_leaks, val_leaks
from weave_data.quality.reasons import FilterReason
from weave_data.quality.similarity import caption_cosines

__all__ = [
    "SIMILARITY_SCHEMA",
    "FilterReason",
    "Leakage",
    "apply_filters",
    "caption_cosines",
    "check_leakage",
    "drop_near_duplicates",
    "drop_val_leaks",
    "duplicate_labels",
    "quality_column",
    "val_leaks",
]
