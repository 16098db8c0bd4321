"""Token lengths of a woven recipe's rows: a function of manifest, tokenizer and model settings.

    texts, frame counts -> encode_turns -> fit_to_length -> one line a row

Rows are counted by the code that encodes them for training, so that an index says what a run would find
out: N of each batch, rows that don't fit, tokens of an epoch. Pixels are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from weave_data.errors import ConfigError
from weave_data.shard import num_row_groups
from weave_train.config import ModelSettings
from weave_train.feed.source import WovenSource
from weave_train.feed.texts import shard_texts
from weave_train.rows.batch import encode_turns
from weave_train.rows.placement import clip_frames
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID, fit_to_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TOKEN_INDEX_SCHEMA",
    "TokenSummary",
    "count_tokens",
    "heaviest_row",
    "spread_groups",
    "summarize",
]

TOKEN_INDEX_SCHEMA = pa.schema(
    [
        pa.field(name, pa.int32(), nullable=False)
        for name in (
            "data_epoch",
            "shard_index",
            "group_index",
            "row_index",
            "num_frames",
            "tokens",
            "kept_tokens",
            "visual_tokens",
            "supervised_tokens",
        )
    ]
)
"""One line per row of the recipe, in reading order, addressed as `order.GroupKey` does.

`tokens`: the whole row, visual and text. `kept_tokens`: what `llm_max_length` leaves of it, 0 where a run
refuses the row: too long, or nothing to learn. `visual_tokens` and `supervised_tokens` are of these.
"""

Group = tuple[int, int, int]
"""Data epoch, shard index, group index."""


@dataclass(frozen=True)
class TokenSummary:
    """What an index says about its rows.

    Attributes:
        rows: Counted.
        tokens: That are kept, visual and text.
        visual_tokens: Of these.
        supervised_tokens: Of these, those that enter the loss.
        frames: Of all rows.
        longest: Tokens of the longest row, before cutting.
        cut: Rows whose text is cut.
        unfit: Rows that a run refuses.
        quantiles: Tokens of a row at 5, 50, 95 and 99 %, before cutting.
    """

    rows: int
    tokens: int
    visual_tokens: int
    supervised_tokens: int
    frames: int
    longest: int
    cut: int
    unfit: int
    quantiles: tuple[int, int, int, int]

    def lines(self) -> list[str]:
        """For people."""
        low, median, high, higher = (f"{tokens:,}" for tokens in self.quantiles)
        kinds = f"{self.visual_tokens:,} visual, {self.supervised_tokens:,} supervised"
        spread = f"{low} (5 %), {median} (median), {high} (95 %), {higher} (99 %), {self.longest:,} (longest)"
        return [
            f"rows         {self.rows:,}",
            f"tokens       {self.tokens:,}: {kinds}",
            f"of a row     {spread}",
            f"cut          {self.cut:,} rows lose the end of their text",
            f"unfit        {self.unfit:,} rows a run refuses",
        ]


def count_tokens(
    source: WovenSource,
    *,
    tokenizer: PreTrainedTokenizerBase,
    settings: ModelSettings,
    groups: Iterable[Group] | None = None,
    num_readers: int = 8,
) -> pa.Table:
    """Count the tokens of rows.

    Args:
        source: Of a recipe.
        tokenizer: Of the run.
        settings: Of the run.
        groups: Which row groups; None: all.
        num_readers: Shards read at once.

    Returns:
        `TOKEN_INDEX_SCHEMA`, in reading order.

    Raises:
        StoreError: Texts can't be read.
    """
    wanted: dict[tuple[int, int], list[int]] = {}
    for data_epoch, shard_index, group_index in _all_groups(source) if groups is None else groups:
        wanted.setdefault((data_epoch, shard_index), []).append(group_index)

    def count(place: tuple[int, int]) -> pa.Table:
        return _count_shard(source, place, wanted[place], tokenizer=tokenizer, settings=settings)

    with ThreadPoolExecutor(num_readers, thread_name_prefix="weave-tokens") as pool:
        tables = list(pool.map(count, sorted(wanted)))
    return pa.concat_tables([TOKEN_INDEX_SCHEMA.empty_table(), *tables])


def spread_groups(source: WovenSource, *, num_groups: int) -> list[Group]:
    """Row groups spread evenly over all stored epochs, for a sample.

    Args:
        source: Of a recipe.
        num_groups: At most that many.
    """
    groups = list(_all_groups(source))
    count = min(num_groups, len(groups))
    return [groups[index * len(groups) // count] for index in range(count)]


def heaviest_row(index: pa.Table) -> int:
    """Position of the row that decides whether a run fits: the first it refuses, else the longest kept.

    Args:
        index: `TOKEN_INDEX_SCHEMA`, of at least one row.
    """
    kept, frames = (index[name].to_numpy().astype(np.int64) for name in ("kept_tokens", "num_frames"))
    if not kept.all():
        return int(np.argmin(kept))
    return int(np.argmax(kept * (frames.max() + 1) + frames))


def summarize(index: pa.Table) -> TokenSummary:
    """Totals of an index.

    Args:
        index: `TOKEN_INDEX_SCHEMA`, of at least one row.
    """
    columns = {name: index[name].to_numpy().astype(np.int64) for name in index.column_names}
    whole, kept = columns["tokens"], columns["kept_tokens"]
    low, median, high, higher = (int(np.quantile(whole, share)) for share in (0.05, 0.5, 0.95, 0.99))
    return TokenSummary(
        rows=index.num_rows,
        tokens=int(kept.sum()),
        visual_tokens=int(columns["visual_tokens"].sum()),
        supervised_tokens=int(columns["supervised_tokens"].sum()),
        frames=int(columns["num_frames"].sum()),
        longest=int(whole.max()),
        cut=int(((kept < whole) & (kept > 0)).sum()),
        unfit=int((kept == 0).sum()),
        quantiles=(low, median, high, higher),
    )


def _all_groups(source: WovenSource) -> Iterable[Group]:
    return (
        (data_epoch, shard_index, group_index)
        for data_epoch, shards in enumerate(source.epochs)
        for shard_index, shard in enumerate(shards)
        for group_index in range(num_row_groups(shard.rows, source.group_rows))
    )


def _count_shard(
    source: WovenSource,
    place: tuple[int, int],
    groups: Sequence[int],
    *,
    tokenizer: PreTrainedTokenizerBase,
    settings: ModelSettings,
) -> pa.Table:
    data_epoch, shard_index = place
    shard = source.epochs[data_epoch][shard_index]
    lines = []
    with_clips = settings.visual_placement == "per-clip"
    tables = shard_texts(source, shard, groups=groups, with_clips=with_clips)
    for group_index, table in zip(groups, tables, strict=True):
        for row_index, row in enumerate(table.to_pylist()):
            counts = _count_row(row, tokenizer=tokenizer, settings=settings)
            lines.append((data_epoch, shard_index, group_index, row_index, row["num_frames"], *counts))
    columns = np.array(lines, dtype=np.int32).reshape(-1, len(TOKEN_INDEX_SCHEMA)).T
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=TOKEN_INDEX_SCHEMA)


def _count_row(
    row: Mapping[str, Any], *, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings
) -> tuple[int, int, int, int]:
    try:
        whole = encode_turns(
            row["conversations"],
            clip_frames=clip_frames(row["num_frames"], row.get("frame_clip")),
            tokenizer=tokenizer,
            settings=settings,
        )
    except ConfigError:  # no answer, or turns out of turn
        return 0, 0, 0, 0
    try:
        kept = fit_to_length(whole, max_length=settings.llm_max_length, name="row")
    except ConfigError:
        return len(whole.input_ids), 0, 0, 0
    visual = int((kept.input_ids == VISUAL_TOKEN_ID).sum())
    supervised = int((kept.labels != IGNORE_INDEX).sum())
    return len(whole.input_ids), len(kept.input_ids), visual, supervised
