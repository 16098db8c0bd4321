"""The data of a run: its sources, the order of their rows, and what both are told apart by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weave_data.records import canonical_json
from weave_data.shard import num_row_groups
from weave_train.config import PretrainConfig
from weave_train.feed import JsonListSource, RowSource, WovenSource, open_sources, row_lengths
from weave_train.feed.texts import shard_texts
from weave_train.order import BatchOrder, build_order

__all__ = ["TrainingData", "open_data", "sample_texts"]

_TEXT_GROUPS = 64  # row groups read to train a small tokenizer, spread over the data
_ROWS_OF_A_GROUP = 16


@dataclass(frozen=True)
class TrainingData:
    """What a run reads, in which order.

    Attributes:
        names: Of the data sets: those of the mixture, or the recipe's.
        slots: Of each in every global batch.
    """

    sources: tuple[RowSource, ...]
    order: BatchOrder
    names: tuple[str, ...]
    slots: tuple[int, ...]

    @property
    def recipe(self) -> str:
        """Name of what is trained on: `a`, or `a+b` of a mixture."""
        return "+".join(self.names)

    @property
    def split(self) -> str:
        """Of each data set."""
        return "+".join(dict.fromkeys(source.split for source in self.sources))

    @property
    def fingerprint(self) -> str:
        """Equal for equal rows in equal slots; a single data set's own."""
        if len(self.sources) == 1:
            return self.sources[0].fingerprint
        parts = [
            [slots, source.split, source.fingerprint]
            for slots, source in zip(self.slots, self.sources, strict=True)
        ]
        return hashlib.sha256(canonical_json(parts)).hexdigest()

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Frames and recipe of the first data set: how a video that is asked about is sampled."""
        configuration: Mapping[str, Any] = self.sources[0].describe()["configuration"]
        return configuration

    @property
    def num_frames(self) -> int | None:
        """T of the rows of some data set, the largest that is known before rows are read."""
        recipes = [source.describe()["configuration"].get("recipe", {}) for source in self.sources]
        known = [
            int(recipe["frames_per_sample"])
            for recipe in recipes
            if "frames_per_sample" in recipe and recipe.get("strategy") != "given"
        ]
        return max(known, default=None)

    def describe(self) -> dict[str, Any]:
        """What a run records about it: enough to say later what changed."""
        described = [dict(source.describe()) for source in self.sources]
        if len(described) == 1:
            return described[0]
        return {
            "recipe": self.recipe,
            "split": self.split,
            "fingerprint": self.fingerprint,
            "configuration": dict(zip(self.names, self.slots, strict=True)),
            "inputs": dict(zip(self.names, described, strict=True)),
        }


def open_data(config: PretrainConfig, *, world_size: int) -> TrainingData:
    """Open the data sets of a run and work out their order.

    Of woven recipes only the manifests are read (and with `order: legacy` the texts, once the order is
    asked), of JSON lists the lists.

    Raises:
        ConfigError: Data sets that aren't there, or don't fit the global batch or the processes.
        SourceError: They can't be read.
    """
    sources = open_sources(config.dataset, config=config)
    order = build_order(sources, config=config, world_size=world_size, lengths=row_lengths)
    if config.dataset.mixture is None:
        return TrainingData(sources, order, (sources[0].describe()["recipe"],), (order.batch_rows,))
    parts = config.dataset.mixture
    return TrainingData(
        sources, order, tuple(part.name for part in parts), tuple(part.slots for part in parts)
    )


def sample_texts(data: TrainingData) -> Iterator[str]:
    """Texts of rows spread evenly over the first stored epoch of each data set; pixels are not read."""
    for source in data.sources:
        for table in _spread_groups(source):
            for turns in table["conversations"].to_pylist():
                yield from (turn["value"] for turn in turns)


def _spread_groups(source: RowSource) -> Iterator[Any]:
    if isinstance(source, JsonListSource):
        records = source.lists[0].records
        starts = range(0, len(records), _ROWS_OF_A_GROUP)
        for start in starts[:: max(1, len(starts) // _TEXT_GROUPS)]:
            yield records.slice(start, _ROWS_OF_A_GROUP)
    elif isinstance(source, WovenSource):
        rows = source.group_rows
        groups = [
            (shard, index) for shard in source.epochs[0] for index in range(num_row_groups(shard.rows, rows))
        ]
        for shard, index in groups[:: max(1, len(groups) // _TEXT_GROUPS)]:
            yield from shard_texts(source, shard, groups=[index])
