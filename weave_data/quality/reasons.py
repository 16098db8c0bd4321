"""Why a clip is filtered."""

from __future__ import annotations

import enum

__all__ = ["FilterReason"]


class FilterReason(str, enum.Enum):
    """One threshold or rule of `filters`; the order is the one in which they are looked at."""

    BELOW_MIN_SIZE_BYTES = "below_min_size_bytes"
    ABOVE_MAX_SIZE_BYTES = "above_max_size_bytes"
    BELOW_MIN_CAPTION_CHARS = "below_min_caption_chars"
    ABOVE_MAX_CAPTION_CHARS = "above_max_caption_chars"
    BELOW_MIN_DURATION_SECONDS = "below_min_duration_seconds"
    ABOVE_MAX_DURATION_SECONDS = "above_max_duration_seconds"
    BELOW_MIN_FRAME_RATE = "below_min_frame_rate"
    ABOVE_MAX_FRAME_RATE = "above_max_frame_rate"
    BELOW_MIN_WIDTH = "below_min_width"
    ABOVE_MAX_WIDTH = "above_max_width"
    BELOW_MIN_HEIGHT = "below_min_height"
    ABOVE_MAX_HEIGHT = "above_max_height"
    BELOW_MIN_ASPECT = "below_min_aspect"
    ABOVE_MAX_ASPECT = "above_max_aspect"
    BELOW_MIN_MOTION = "below_min_motion"
    ABOVE_MAX_MOTION = "above_max_motion"
    BELOW_MIN_BLACK_FRACTION = "below_min_black_fraction"
    ABOVE_MAX_BLACK_FRACTION = "above_max_black_fraction"
    BELOW_MIN_SHARPNESS = "below_min_sharpness"
    ABOVE_MAX_SHARPNESS = "above_max_sharpness"
    BELOW_MIN_LUMA = "below_min_luma"
    ABOVE_MAX_LUMA = "above_max_luma"
    BELOW_MIN_CAPTION_SIMILARITY = "below_min_caption_similarity"
    ABOVE_MAX_CAPTION_SIMILARITY = "above_max_caption_similarity"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    VAL_LEAK = "val_leak"
