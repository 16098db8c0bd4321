"""The data sets a configuration names, opened: woven recipes, JSON lists, mixtures of both."""

from __future__ import annotations

from weave_train.config.pretrain import PretrainConfig
from weave_train.config.sections import DatasetConfig, MixtureEntry
from weave_train.feed.json_list_sets import open_listed_set
from weave_train.feed.source import RowSource, open_source

__all__ = ["open_sources"]


def open_sources(dataset: DatasetConfig, *, config: PretrainConfig) -> tuple[RowSource, ...]:
    """Open what a run reads, in the order of its mixture.

    Args:
        dataset: `config.dataset`, or `config.val_dataset`.
        config: Of the run: what JSON lists are read for.

    Raises:
        ConfigError: A data set that isn't there, or is not known.
        SourceError: A data set can't be read.
    """
    if dataset.mixture is not None:
        return tuple(_open_part(part, dataset, config) for part in dataset.mixture)
    if dataset.manifest is not None:
        return (open_source(dataset.manifest, split=dataset.split),)
    return (open_listed_set(dataset, config=config),)


def _open_part(part: MixtureEntry, dataset: DatasetConfig, config: PretrainConfig) -> RowSource:
    if part.manifest is not None:
        return open_source(part.manifest, split=part.split)
    listed = dataset.model_copy(update={"type": part.type, "split": part.split})
    return open_listed_set(listed, config=config, name=part.name)
