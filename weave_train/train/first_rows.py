"""Rows of a global batch as a run would get them, without a model: what `weave-train show-batch` shows."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.feed import RowFeed, feed_limits
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.train.data import open_data
from weave_train.train.run_directory import model_settings
from weave_train.train.token_lengths import planned_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["FirstRows", "first_rows"]


@dataclass(frozen=True)
class FirstRows:
    """Rows, and what it takes to read them."""

    rows: tuple[EncodedRow, ...]
    tokenizer: PreTrainedTokenizerBase
    settings: ModelSettings


def first_rows(config: PretrainConfig, *, num_rows: int, step: int = 0) -> FirstRows:
    """Read and encode the first slots of a step's global batch; nothing is written, no weights are read.

    Args:
        config: Of the run; the tokenizer is a new run's.
        num_rows: At most the global batch.
        step: Global step, from 0.

    Raises:
        ConfigError: Flags don't fit the data set, or a row can't be encoded; names the sample.
        StoreError: The data set can't be read.
    """
    data = open_data(config, world_size=1)
    settings = model_settings(config, data.configuration)
    num_steps = config.hyper.max_steps or data.order.num_steps(config.hyper.epochs)
    if step >= num_steps:
        raise ConfigError(f"step: {step} is not a step of this run, which has {num_steps}; they count from 0")
    tokenizer = planned_tokenizer(config, data, settings)
    feed: RowFeed[EncodedRow] = RowFeed(
        data.sources,
        data.order,
        slots=range(min(num_rows, data.order.batch_rows)),
        encode=functools.partial(
            make_row,
            tokenizer=tokenizer,
            settings=settings,
            shuffle_frames=config.dataset.shuffle_frames,
        ),
        stop_step=step + 1,
        limits=feed_limits(config),
    )
    try:
        rows = feed.batch(step)
    finally:
        feed.close()
    return FirstRows(tuple(rows), tokenizer, settings)
