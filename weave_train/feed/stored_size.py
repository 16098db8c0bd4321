"""Frames are not trained on at more pixels than they are stored with, unless somebody says so."""

from __future__ import annotations

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.feed.source import RowSource, WovenSource
from weave_train.towers import tower_spec

__all__ = ["check_stored_size"]


def check_stored_size(source: RowSource, settings: ModelSettings, *, allow_upscaling: bool) -> None:
    """Refuse a tower whose input is larger than the short side of the stored frames.

    Only a woven recipe has stored frames; the frames of other sources are decoded as they are read.

    Raises:
        ConfigError: Frames would be scaled up; says both sizes.
    """
    if allow_upscaling or not isinstance(source, WovenSource):
        return
    stored_px = source.manifest.configuration.get("frames", {}).get("short_side_px")
    image_px = tower_spec(settings.vision_backbone_id).image_px
    if stored_px is not None and stored_px < image_px:
        raise ConfigError(
            f"{source.uri}: frames are stored with a short side of {stored_px} px, "
            f"{settings.vision_backbone_id} takes {image_px} px; build with frames.short_side_px {image_px}, "
            "choose a smaller tower, or add --feed.allow_upscaling true"
        )
