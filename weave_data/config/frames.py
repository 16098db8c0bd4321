"""Which frames are stored, and which model looks at them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from weave_data.config.loading import StrictModel

__all__ = ["EmbeddingConfig", "FramesConfig"]


class FramesConfig(StrictModel):
    """How frames are stored; which ones are taken is the recipes' choice."""

    short_side_px: Annotated[int, Field(ge=16, le=4096)] = 336
    format: Literal["jpeg", "png"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 85
    decoder: Literal["pyav", "decord"] = "pyav"


class EmbeddingConfig(StrictModel):
    """Which model turns a clip's stored frames into one vector; `none` groups without meaning.

    `model` is an open_clip architecture, `efficientnet-lite0`, or `none`; `pretrained` is an
    open_clip tag, a local weight file, or `random` (written out: seeded random weights, for tests).
    """

    model: str = "ViT-B-32"
    pretrained: str = "openai"
    frames_per_clip: Annotated[int, Field(ge=1, le=64)] = 4
    batch_size: Annotated[int, Field(ge=1)] = 64
    precision: Literal["fp32", "bf16"] = "bf16"

    @property
    def has_text_tower(self) -> bool:
        """True when it understands captions too."""
        return self.model not in {"none", "efficientnet-lite0"}
