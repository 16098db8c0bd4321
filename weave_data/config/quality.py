"""Which decoded clips are worth weaving."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weave_data.config.loading import StrictModel

__all__ = ["FILTER_COLUMNS", "FiltersConfig", "RangeConfig"]

FILTER_COLUMNS = (
    "size_bytes",
    "caption_chars",
    "duration_seconds",
    "frame_rate",
    "width",
    "height",
    "aspect",
    "motion",
    "black_fraction",
    "sharpness",
    "luma",
    "caption_similarity",
)
"""Columns with thresholds, in the order in which they are looked at."""

_Bound = Annotated[float, Field(allow_inf_nan=False)]


class RangeConfig(StrictModel):
    """Values that are kept: `min <= value <= max`; null is no bound."""

    min: _Bound | None = None
    max: _Bound | None = None

    @property
    def is_bounded(self) -> bool:
        """True when some value may be refused."""
        return self.min is not None or self.max is not None

    @model_validator(mode="after")
    def _check_order(self) -> RangeConfig:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; no clip would be left")
        return self


class FiltersConfig(StrictModel):
    """Which decoded clips are woven. Nothing is decoded or measured again when thresholds change.

    `aspect` is width / height, `caption_chars` the caption's length. `duration_seconds`, `frame_rate`
    and `motion` are asked of videos only. `caption_similarity` is the cosine of the caption's vector and
    the clip's: it needs an embedder with a text tower, and clips without a caption are not asked.
    `exact_duplicates: drop` keeps the first clip of the catalog of those with the same bytes;
    `near_duplicates` is a cosine from which clips that look alike are dropped but for the first by clip
    id. `val_leaks` says what becomes of a val clip with a duplicate in train: counted, or dropped.
    """

    size_bytes: RangeConfig = RangeConfig()
    caption_chars: RangeConfig = RangeConfig()
    duration_seconds: RangeConfig = RangeConfig()
    frame_rate: RangeConfig = RangeConfig()
    width: RangeConfig = RangeConfig()
    height: RangeConfig = RangeConfig()
    aspect: RangeConfig = RangeConfig()
    motion: RangeConfig = RangeConfig()
    black_fraction: RangeConfig = RangeConfig()
    sharpness: RangeConfig = RangeConfig()
    luma: RangeConfig = RangeConfig()
    caption_similarity: RangeConfig = RangeConfig()
    exact_duplicates: Literal["keep", "drop"] = "keep"
    near_duplicates: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    val_leaks: Literal["drop", "report"] = "report"

    def range_of(self, column: str) -> RangeConfig:
        """Bounds of one of `FILTER_COLUMNS`."""
        found: RangeConfig = getattr(self, column)
        return found
