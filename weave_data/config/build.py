"""The build configuration: what `weave-data build CONFIG.yaml` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from weave_data.config.execution import ExecutionConfig, RejectsConfig
from weave_data.config.frames import EmbeddingConfig, FramesConfig
from weave_data.config.groups import GroupsConfig
from weave_data.config.loading import StrictModel, load_config_file
from weave_data.config.quality import FiltersConfig
from weave_data.config.recipe import RecipeConfig
from weave_data.config.source import SourceConfig

__all__ = ["BuildConfig", "load_build_config"]


class BuildConfig(StrictModel):
    """Everything `weave-data build` needs."""

    source: SourceConfig
    frames: FramesConfig = FramesConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    filters: FiltersConfig = FiltersConfig()
    groups: GroupsConfig = GroupsConfig()
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

    @model_validator(mode="after")
    def _check_given(self) -> BuildConfig:
        wanted = self.source.frames_per_video
        for recipe in self.recipes:
            if wanted is not None and recipe.strategy == "given" and recipe.clip_frame_counts != (wanted,):
                raise ValueError(
                    f"recipes.{recipe.name}: takes {recipe.clip_frame_counts[0]} frames of a video, "
                    f"source.frames_per_video is {wanted}; set frames_per_clip: {wanted}"
                )
        return self

    @model_validator(mode="after")
    def _check_similarity(self) -> BuildConfig:
        if self.filters.caption_similarity.is_bounded and not self.embedding.has_text_tower:
            raise ValueError(
                f"filters.caption_similarity: embedding.model {self.embedding.model} has no text tower; "
                "choose an open_clip model, as ViT-B-32, or drop the threshold"
            )
        return self

    @property
    def needs_embeddings(self) -> bool:
        """True when clips are compared by what they look like."""
        return self._compares_all or any(recipe.needs_vectors for recipe in self.recipes)

    @property
    def needs_captions(self) -> bool:
        """True when clips are compared by what their captions say."""
        return any("caption" in recipe.strategies for recipe in self.recipes)

    @property
    def _compares_all(self) -> bool:
        filters = self.filters
        return (
            filters.near_duplicates is not None
            or self.groups.near_duplicates is not None
            or filters.caption_similarity.is_bounded
        )

    def semantic(self, recipe: RecipeConfig) -> dict[str, Any]:
        """Resolved settings that decide a recipe's bytes: no location, no execution.

        Its items are what `build` compares, dotted, with a published recipe.
        """
        settings: dict[str, Any] = {
            "source": self.source.model_dump(mode="json", exclude={"catalog", "videos"}),
            "frames": self.frames.model_dump(mode="json"),
            "filters": self.filters.model_dump(mode="json", exclude_defaults=True),
            "groups": self.groups.model_dump(mode="json", exclude_defaults=True),
            "recipe": recipe.model_dump(mode="json"),
            "rejects": {"quarantine": sorted(self.rejects.quarantine)},
        }
        if recipe.needs_vectors or self._compares_all or "caption" in recipe.strategies:
            settings["embedding"] = self.embedding.model_dump(mode="json", exclude={"batch_size"})
        return settings


def load_build_config(path: Path, overrides: Sequence[str] = ()) -> BuildConfig:
    """Load and validate a build configuration.

    Raises:
        ConfigError: All problems at once, each with its dotted path.
    """
    return load_config_file(BuildConfig, path, overrides)
