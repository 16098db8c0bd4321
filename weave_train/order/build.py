"""The order a configuration asks for, over the data sets it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig
from weave_train.order.addresses import BatchOrder
from weave_train.order.lanes import TrainingOrder
from weave_train.order.legacy import LegacyOrder
from weave_train.order.mixture import MixtureOrder, MixturePart
from weave_train.order.permutation import order_key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GroupedRows", "build_order"]

RowsT = TypeVar("RowsT", bound="GroupedRows")


class GroupedRows(Protocol):
    """What an order needs to know of a data set."""

    @property
    def group_rows(self) -> int:
        """Rows of a full group."""

    @property
    def shard_rows(self) -> tuple[tuple[int, ...], ...]:
        """Rows of each shard, for each stored epoch."""


def build_order(
    sources: Sequence[RowsT],
    *,
    config: PretrainConfig,
    world_size: int,
    lengths: Callable[[RowsT, int], pa.Table],
) -> BatchOrder:
    """Global batches of a run.

    Args:
        sources: Of `config.dataset`, in the order of its mixture; their positions are the addresses'
            `source_index`.
        config: `order`, `seed`, `window_groups`, the global batch and the mixture's slots are used.
        world_size: R; only `legacy` asks for it.
        lengths: Of a source's stored epoch, a table `is_multimodal` bool, `length` integer (words); called
            for `legacy` only.

    Raises:
        ConfigError: Slots don't add up to the global batch, an empty data set, or what `legacy` refuses.
    """
    batch_rows = config.hyper.global_batch_size
    slots = (
        [batch_rows] if config.dataset.mixture is None else [part.slots for part in config.dataset.mixture]
    )
    if sum(slots) != batch_rows:
        raise ConfigError(
            f"dataset.mixture: its slots add up to {sum(slots)}, the global batch has {batch_rows} rows; "
            "change the slots or the global batch size"
        )
    orders = [
        _legacy(source, index, count, config, world_size, functools.partial(lengths, source))
        if config.order == "legacy"
        else _lanes(source, index, count, config)
        for index, (source, count) in enumerate(zip(sources, slots, strict=True))
    ]
    if len(orders) == 1:
        return orders[0]
    return MixtureOrder([MixturePart(order, count) for order, count in zip(orders, slots, strict=True)])


def _lanes(source: GroupedRows, index: int, batch_rows: int, config: PretrainConfig) -> BatchOrder:
    # data sets of one shape and one seed would be read in step: the same clips at the same time
    seed = config.seed if index == 0 else order_key(config.seed, 0, "source", index)
    return TrainingOrder.over(
        source.shard_rows,
        group_rows=source.group_rows,
        batch_rows=batch_rows,
        window_groups=config.window_groups,
        seed=seed,
        source_index=index,
    )


def _legacy(
    source: GroupedRows,
    index: int,
    batch_rows: int,
    config: PretrainConfig,
    world_size: int,
    lengths: Callable[[int], pa.Table],
) -> BatchOrder:
    return LegacyOrder(
        source.shard_rows,
        group_rows=source.group_rows,
        batch_rows=batch_rows,
        seed=config.seed,
        world_size=world_size if config.dataset.mixture is None else 1,
        lengths=lengths,
        source_index=index,
    )
