"""Token lengths of a run's data sets: stored indexes, made by `weave-train index`, or a sample.

The tokenizer is the one the run will have: of the run it begins with, of `hf:DIR`, or trained on the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.feed import (
    JsonListSource,
    RowSource,
    TokenSummary,
    WovenSource,
    count_tokens,
    index_key,
    index_place,
    read_index,
    spread_groups,
    summarize,
    write_index,
)
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.train.data import TrainingData, open_data, sample_texts
from weave_train.train.run_directory import model_settings
from weave_train.train.warm_start import find_donor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IndexedSet", "SetLengths", "index_data_sets", "planned_tokenizer", "set_lengths", "stored_index"]

_SAMPLED_GROUPS = 64


@dataclass(frozen=True)
class IndexedSet:
    """One data set's index.

    Attributes:
        name: Of the data set.
        uri: Of the index.
        is_new: Made now; else it was there.
        summary: Of its rows.
    """

    name: str
    uri: str
    is_new: bool
    summary: TokenSummary

    def lines(self) -> list[str]:
        """For people."""
        return [*self.summary.lines(), f"index        {self.uri}{'' if self.is_new else ' (was there)'}"]


@dataclass(frozen=True)
class SetLengths:
    """Lengths of a data set's rows, `TOKEN_INDEX_SCHEMA`; `is_whole`: of all of them, not of a sample."""

    table: pa.Table
    is_whole: bool


def planned_tokenizer(
    config: PretrainConfig, data: TrainingData, settings: ModelSettings
) -> PreTrainedTokenizerBase:
    """Tokenizer of a run that has not begun; no weights are read.

    Raises:
        ConfigError: The run it begins with is not there, or there is no such tokenizer.
    """
    named = config.model.init_from_model or config.pretrained_checkpoint
    if named is not None and ("://" in named or Path(named).is_dir()):
        donor = find_donor(config, recipe=data.recipe)
        tokenizer = None if donor is None else donor.tokenizer()
        if tokenizer is not None:
            return tokenizer
    return resolve_tokenizer(settings, sample_texts(data), hf_token=config.hf_token)


def stored_index(
    source: RowSource, *, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings, to: str | None
) -> pa.Table | None:
    """The index of a data set for this tokenizer and these settings, where there is one.

    Args:
        source: Of the rows.
        tokenizer: Of the run.
        settings: Of the run.
        to: `dataset.token_index`.
    """
    if not isinstance(source, WovenSource):
        return None
    return read_index(index_place(source, index_key(source, tokenizer, settings), to=to), source)


def set_lengths(
    source: RowSource, *, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings, to: str | None
) -> SetLengths:
    """Lengths from the index, or of rows spread over the data set.

    Raises:
        ConfigError: A JSON list: its frames are counted when they are decoded.
    """
    index = stored_index(source, tokenizer=tokenizer, settings=settings, to=to)
    if index is not None:
        return SetLengths(index, is_whole=True)
    woven = _woven(source)
    groups = spread_groups(woven, num_groups=_SAMPLED_GROUPS)
    return SetLengths(
        count_tokens(woven, tokenizer=tokenizer, settings=settings, groups=groups), is_whole=False
    )


def index_data_sets(config: PretrainConfig) -> Iterator[IndexedSet]:
    """Index each data set of a run, unless it is there; committed once.

    Raises:
        ConfigError: Flags don't fit each other, or a data set is a JSON list.
        StoreError: It can't be read, or the index can't be written.
    """
    data = open_data(config, world_size=1)
    settings = model_settings(config, data.configuration)
    tokenizer = planned_tokenizer(config, data, settings)
    for name, source in zip(data.names, data.sources, strict=True):
        woven = _woven(source)
        place = index_place(
            woven, index_key(woven, tokenizer, settings), to=config.dataset.token_index, readonly=False
        )
        found = read_index(place, woven)
        index = count_tokens(woven, tokenizer=tokenizer, settings=settings) if found is None else found
        if found is None:
            write_index(place, index)
        yield IndexedSet(name, place.uri, found is None, summarize(index))


def _woven(source: RowSource) -> WovenSource:
    if isinstance(source, WovenSource):
        return source
    name = source.name if isinstance(source, JsonListSource) else source.fingerprint
    raise ConfigError(
        f"dataset.type: {name} is a JSON list, whose frames are counted only when they are decoded; build it "
        "with weave-data first"
    )
