"""How clips are woven."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from weave_data.config.loading import StrictModel
from weave_data.records import RESERVED_NAMES

__all__ = ["DEFAULT_PROMPT", "RecipeConfig", "SplitConfig"]


DEFAULT_PROMPT = "Describe what is happening in the video."


class SplitConfig(StrictModel):
    """Share of clips, by hash of the clip id, that goes to the `val` split."""

    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class RecipeConfig(StrictModel):
    """How clips are woven: L clips of T / L frames each per sample."""

    name: str
    strategy: Literal["single", "random", "clustered"]
    clips_per_sample: Annotated[int, Field(ge=1, le=64)] = 1
    frames_per_sample: Annotated[int, Field(ge=1, le=1024)] = 16
    seed: Annotated[int, Field(ge=0)] = 7
    prompt: str = DEFAULT_PROMPT
    caption_join: Literal["parity"] = "parity"
    remainder: Literal["drop", "keep"] = "drop"
    split: SplitConfig = SplitConfig()
    shard_rows: Annotated[int, Field(ge=1)] = 1024
    row_group_rows: Annotated[int, Field(ge=1)] = 16

    @property
    def frames_per_clip(self) -> int:
        """k = T / L."""
        return self.frames_per_sample // self.clips_per_sample

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
            raise ValueError(f"{name!r}: use letters, digits, '.', '_', '+', '-', at most 64 of them")
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is taken by the output layout; choose another recipe name")
        return name

    @model_validator(mode="after")
    def _check_shape(self) -> RecipeConfig:
        clips, frames = self.clips_per_sample, self.frames_per_sample
        if frames % clips:
            raise ValueError(
                f"frames_per_sample {frames} is not a multiple of clips_per_sample {clips}; "
                "every clip gives the same number of frames"
            )
        if self.strategy == "single" and clips != 1:
            raise ValueError(f"strategy single weaves one clip, clips_per_sample is {clips}; set it to 1")
        if self.strategy != "single" and clips == 1:
            raise ValueError(f"strategy {self.strategy} needs clips_per_sample of at least 2, got 1")
        if self.shard_rows % self.row_group_rows:
            raise ValueError(
                f"shard_rows {self.shard_rows} is not a multiple of row_group_rows {self.row_group_rows}"
            )
        return self
