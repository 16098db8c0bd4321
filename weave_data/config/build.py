"""The build configuration: what `weave-data build CONFIG.yaml` reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from weave_data.config.loading import StrictModel, load_config_file
from weave_data.records import RESERVED_NAMES

__all__ = [
    "BuildConfig",
    "EmbeddingConfig",
    "ExecutionConfig",
    "FramesConfig",
    "RecipeConfig",
    "RejectsConfig",
    "SourceConfig",
    "SplitConfig",
    "load_build_config",
]

DEFAULT_PROMPT = "Describe what is happening in the video."


class SourceConfig(StrictModel):
    """WebVid-style clips: a CSV catalog and the videos it names.

    `catalog` is one CSV file or a prefix of CSV partitions. `path` is a template over the CSV's
    columns giving a video's place below `videos`; by default `contentUrl` when that is relative.
    `part_clips: auto` is 1024, or a sixteenth of a unit smaller than 16384.
    `limit` keeps the first clips of the catalog only (`--limit N`): a preview.
    """

    kind: Literal["webvid"] = "webvid"
    catalog: str
    videos: str
    path: str | None = None
    part_clips: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    limit: Annotated[int, Field(ge=1)] | None = None


class FramesConfig(StrictModel):
    """Which frames are taken and how they are stored."""

    policy: Literal["linspace"] = "linspace"
    short_side_px: Annotated[int, Field(ge=16, le=4096)] = 336
    format: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 85
    short_clips: Literal["reject"] = "reject"
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


class RejectsConfig(StrictModel):
    """How many clips may be refused before the run stops, and clips given up on explicitly."""

    max_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    quarantine: list[str] = Field(default_factory=list)


class ExecutionConfig(StrictModel):
    """Where and how a build runs. Nothing here reaches a key, a fingerprint or a data file.

    `num_cpus: null` means all cores; `gpus` embedding actors' GPUs in total; `ray_address: null`
    a private local Ray, or the cluster of the job under `ray job submit`; `in_process: true` runs
    without Ray, one part at a time (tests, debugging).
    """

    num_cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[float, Field(ge=0)] = 0
    gpus_per_actor: Annotated[float, Field(gt=0, le=8)] = 1.0
    work_dir: str | None = None
    ray_address: str | None = None
    in_process: bool = False
    clip_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    clip_memory_bytes: Annotated[int, Field(ge=1 << 28)] = 4 << 30


class BuildConfig(StrictModel):
    """Everything `weave-data build` needs."""

    source: SourceConfig
    frames: FramesConfig = FramesConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    recipes: Annotated[list[RecipeConfig], Field(min_length=1)]
    rejects: RejectsConfig = RejectsConfig()
    output: str
    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="after")
    def _check_recipes(self) -> BuildConfig:
        names = [recipe.name for recipe in self.recipes]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"recipes: the name {repeated[0]!r} is used twice")
        return self

    @property
    def needs_embeddings(self) -> bool:
        """True when a recipe groups by similarity."""
        return any(recipe.strategy == "clustered" for recipe in self.recipes)

    def semantic(self, recipe: RecipeConfig) -> dict[str, Any]:
        """Resolved settings that decide a recipe's bytes: no location, no execution.

        Its items are what `build` compares, dotted, with a published recipe.
        """
        settings: dict[str, Any] = {
            "source": self.source.model_dump(mode="json", exclude={"catalog", "videos"}),
            "frames": self.frames.model_dump(mode="json"),
            "recipe": recipe.model_dump(mode="json"),
            "rejects": {"quarantine": sorted(self.rejects.quarantine)},
        }
        if recipe.strategy == "clustered":
            settings["embedding"] = self.embedding.model_dump(mode="json", exclude={"batch_size"})
        return settings


def load_build_config(path: Path, overrides: Sequence[str] = ()) -> BuildConfig:
    """Load and validate a build configuration.

    Raises:
        ConfigError: All problems at once, each with its dotted path.
    """
    return load_config_file(BuildConfig, path, overrides)
