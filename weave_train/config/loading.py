"""Preset, file and flags become one checked configuration."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from weave_data.config import load_config
from weave_data.errors import ConfigError
from weave_train.config.dataset_presets import data_root
from weave_train.config.presets import DEFAULT_MODEL_TYPE, model_preset
from weave_train.config.pretrain import PretrainConfig
from weave_train.config.problems import find_problems
from weave_train.config.sections import DatasetConfig, ModelConfig

__all__ = ["load_pretrain_config", "pretrain_yaml"]


def load_pretrain_config(
    overrides: Sequence[tuple[str, Any]],
    *,
    values: Mapping[str, Any] | None = None,
    origin: str = "command line",
) -> PretrainConfig:
    """Preset, then a file's values, then overrides; then refuse what can't be honoured.

    Args:
        overrides: `(dotted.path, value)` pairs, applied in order.
        values: Parsed settings of a configuration file.
        origin: Named in messages.

    Raises:
        ConfigError: All problems, each with its dotted path.
    """
    given = dict(values or {})
    section = given.get("model")
    model_values = dict(section) if isinstance(section, Mapping) else {}
    model_type = dict(overrides).get("model.type", model_values.get("type", DEFAULT_MODEL_TYPE))
    preset = {"type": model_type, **model_preset(str(model_type))}
    config = load_config(
        PretrainConfig, {**given, "model": {**preset, **model_values}}, overrides=overrides, origin=origin
    )
    config = config.model_copy(
        update={name: _rooted(getattr(config, name)) for name in ("dataset", "val_dataset")}
    )
    problems = find_problems(config, PretrainConfig(model=ModelConfig(**preset)))
    if problems:
        raise ConfigError(problems, origin=origin)
    return config


def pretrain_yaml(config: PretrainConfig) -> str:
    """The same settings as a file for `--config`: values keep their types and no command line shows them."""
    yaml, sink = YAML(typ="safe", pure=True), io.StringIO()
    yaml.dump(config.model_dump(mode="json", exclude_none=True), sink)
    return sink.getvalue()


def _rooted(dataset: DatasetConfig) -> DatasetConfig:
    """With its root written out where it names JSON lists: ranks elsewhere have another environment."""
    listed = dataset.manifest is None and dataset.type is not None
    listed = listed or any(part.type is not None for part in dataset.mixture or [])
    if dataset.dataset_root_dir is not None or not listed:
        return dataset
    return dataset.model_copy(update={"dataset_root_dir": data_root()})
