"""Typed, strict configuration from YAML and dotted overrides.

loading   any pydantic model from a YAML file and `a.b=value` overrides, all problems at once
build     the build configuration of `weave-data build`
"""

from weave_data.config.build import (
    BuildConfig,
    EmbeddingConfig,
    ExecutionConfig,
    FramesConfig,
    RecipeConfig,
    RejectsConfig,
    SourceConfig,
    SplitConfig,
    load_build_config,
)
from weave_data.config.loading import StrictModel, load_config, parse_overrides, parse_scalar, read_yaml

__all__ = [
    "BuildConfig",
    "EmbeddingConfig",
    "ExecutionConfig",
    "FramesConfig",
    "RecipeConfig",
    "RejectsConfig",
    "SourceConfig",
    "SplitConfig",
    "StrictModel",
    "load_build_config",
    "load_config",
    "parse_overrides",
    "parse_scalar",
    "read_yaml",
]
