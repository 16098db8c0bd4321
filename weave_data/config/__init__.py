"""Typed, strict configuration from YAML and dotted overrides.

loading   any pydantic model from a YAML file and `a.b=value` overrides, all problems at once
build     the build configuration of `weave-data build`, made of
          source, frames, recipe, execution
"""

from weave_data.config.build import BuildConfig, load_build_config
from weave_data.config.execution import ExecutionConfig, RejectsConfig
from weave_data.config.frames import EmbeddingConfig, FramesConfig
from weave_data.config.groups import GroupsConfig
from weave_data.config.loading import StrictModel, load_config, parse_overrides, parse_scalar, read_yaml
from weave_data.config.quality import FILTER_COLUMNS, FiltersConfig, RangeConfig
from weave_data.config.recipe import MatchConfig, Portion, RecipeConfig, SplitConfig
from weave_data.config.source import ColumnsConfig, SourceConfig

__all__ = [
    "BuildConfig",
    "ColumnsConfig",
    "EmbeddingConfig",
    "ExecutionConfig",
    "FILTER_COLUMNS",
    "FiltersConfig",
    "FramesConfig",
    "GroupsConfig",
    "MatchConfig",
    "Portion",
    "RangeConfig",
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
