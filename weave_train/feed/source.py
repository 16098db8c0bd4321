"""What rows are read from: one split of a woven recipe, or anything else that has row groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from weave_data.errors import ConfigError
from weave_data.shard import Manifest, ShardEntry, open_dataset
from weave_data.storage import Store
from weave_train.feed.shard_reader import ShardReader
from weave_train.order import GroupKey

__all__ = ["RowSource", "WovenSource", "group_name", "open_source"]


class RowSource(Protocol):
    """Rows in groups, of which an order needs the counts only."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal rows in equal order."""

    @property
    def split(self) -> str:
        """Which part of the data set."""

    @property
    def group_rows(self) -> int:
        """Rows of a full group; only a shard's last group may be shorter."""

    @property
    def shard_rows(self) -> tuple[tuple[int, ...], ...]:
        """Rows of each shard, for each stored epoch."""

    def read(self, data_epoch: int, shard_index: int, group_index: int, *, epoch: int) -> pa.Table:
        """Rows of one group, `records.WOVEN_SCHEMA`.

        Args:
            data_epoch: Index of the stored epoch.
            shard_index: Within it.
            group_index: Within the shard.
            epoch: Training epoch, for sources that draw frames anew in each.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """What a run records about it: enough to say later what changed. JSON-able."""
        ...


@dataclass(frozen=True)
class WovenSource:
    """One split of a published recipe.

    Attributes:
        epochs: Shards of each stored epoch, in reading order.
        reader: How row groups are fetched.
    """

    uri: str
    store: Store
    manifest: Manifest
    split: str
    epochs: tuple[tuple[ShardEntry, ...], ...]
    reader: ShardReader = field(default_factory=ShardReader, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """The recipe's."""
        return self.manifest.fingerprint

    @property
    def group_rows(self) -> int:
        """Rows of a full row group."""
        return self.manifest.row_group_rows

    @property
    def shard_rows(self) -> tuple[tuple[int, ...], ...]:
        """Rows of each shard of each stored epoch."""
        return tuple(tuple(shard.rows for shard in shards) for shards in self.epochs)

    def read(
        self,
        data_epoch: int,
        shard_index: int,
        group_index: int,
        *,
        epoch: int,  # noqa: ARG002  a stored epoch never changes
    ) -> pa.Table:
        """Read one row group in one ranged GET; a reference shard's frames in a few more."""
        return self.reader.read(self.store, self.epochs[data_epoch][shard_index], group_index)

    def read_by(self, reader: ShardReader) -> WovenSource:
        """The same source with other deadlines, another cache, other counters."""
        return replace(self, reader=reader)

    def describe(self) -> dict[str, Any]:
        """Recipe, fingerprint, configuration and inputs of the manifest."""
        return {
            "uri": self.uri,
            "split": self.split,
            "recipe": self.manifest.recipe,
            "fingerprint": self.manifest.fingerprint,
            "configuration": dict(self.manifest.configuration),
            "inputs": dict(self.manifest.inputs),
        }


def group_name(source: RowSource, key: GroupKey) -> str:
    """What a message calls a row group: its shard's path where it has one."""
    if isinstance(source, WovenSource):
        shard = source.epochs[key.data_epoch][key.shard_index]
        return f"{shard.path}, row group {key.group_index}"
    return f"data set {key.source_index}, shard {key.shard_index}, row group {key.group_index}"


def open_source(uri: str, *, split: str) -> WovenSource:
    """Open a woven data set for training; reads the manifest only.

    Raises:
        ConfigError: The uri names no recipe, or the recipe has no such split.
        StoreError: The store can't be reached.
    """
    dataset = open_dataset(uri)
    manifest = dataset.manifest
    numbers = sorted({shard.epoch for shard in manifest.shards if shard.split == split})
    if not numbers:
        splits = sorted({shard.split for shard in manifest.shards})
        raise ConfigError(
            f"dataset.split: {uri} has no split {split!r}; it has {', '.join(splits) or 'no rows at all'}"
        )
    epochs = tuple(manifest.select(split=split, epoch=number) for number in numbers)
    return WovenSource(uri, dataset.store, manifest, split, epochs)
