"""Which decoded clips are woven: thresholds and duplicates, before any recipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.cluster import near_duplicates
from weave_data.config import FiltersConfig, GroupsConfig
from weave_data.embed import EmbedReceipt
from weave_data.pipeline.accounting import check_balance
from weave_data.pipeline.vectors import read_clip_vectors
from weave_data.quality import apply_filters, drop_near_duplicates, duplicate_labels
from weave_data.records import REJECT_SCHEMA, StageCount, content_key
from weave_data.storage import Store, commit_first
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes

__all__ = ["SelectedClips", "select_clips"]


@dataclass(frozen=True)
class SelectedClips:
    """What filters leave of the decoded clips.

    `clips` is CLIP_SCHEMA in catalog order; `labels` int64, equal for clips that are copies of each
    other, by `clip_ids`; `duplicates` the committed near duplicates that filters drop, None when nobody
    asked; `apart` those that groups keep apart; `files` [path, sha256] of both.
    """

    clips: pa.Table
    rejects: pa.Table
    counts: tuple[StageCount, ...]
    quality: pa.Table
    duplicates: pa.Table | None = None
    apart: pa.Table | None = None
    files: tuple[tuple[str, str], ...] = ()

    def labels(self, clip_ids: pa.Array) -> np.ndarray:
        """int64[n]: equal for clips that are exact or near copies of each other."""
        return duplicate_labels(clip_ids, duplicates=self.duplicates, quality=self.quality)


def select_clips(
    clips: pa.Table,
    quality: pa.Table,
    filters: FiltersConfig,
    *,
    groups: GroupsConfig,
    vectors: tuple[EmbedReceipt, ...],
    store: Store,
) -> SelectedClips:
    """Apply every filter of a build.

    Args:
        clips: CLIP_SCHEMA of the decoded clips, in catalog order.
        quality: QUALITY_SCHEMA of them.
        filters: Thresholds.
        groups: Which clips groups shall keep apart.
        vectors: Of the clips; needed where near duplicates are asked for.
        store: The output; near duplicates are found once and committed.

    Raises:
        AccountingError: A clip was not measured.
    """
    kept, rejects, count = apply_filters(clips, quality, filters)
    check_balance(count, where="filter")
    tables, counts, duplicates = [REJECT_SCHEMA.empty_table(), rejects], [count], None
    files: dict[str, str] = {}
    if filters.near_duplicates is not None:
        duplicates = _near_duplicates(kept, filters.near_duplicates, vectors, store, files)
        kept, rejects, count = drop_near_duplicates(kept, duplicates)
        check_balance(count, where="near duplicates")
        tables.append(rejects)
        counts.append(count)
    apart = None
    if groups.near_duplicates is not None:
        apart = _near_duplicates(kept, groups.near_duplicates, vectors, store, files)
    measured = quality.filter(pc.is_in(quality["clip_id"], value_set=kept["clip_id"].combine_chunks()))
    named = tuple(sorted(files.items()))
    return SelectedClips(kept, pa.concat_tables(tables), tuple(counts), measured, duplicates, apart, named)


def _near_duplicates(
    clips: pa.Table,
    min_cosine: float,
    vectors: tuple[EmbedReceipt, ...],
    store: Store,
    files: dict[str, str],
) -> pa.Table:
    """The committed near duplicates, found now when they are not there; noted in `files`."""
    clip_ids = clips["clip_id"].combine_chunks()
    key = content_key(
        "near_duplicates",
        min_cosine=min_cosine,
        clips=sha256_hex("\n".join(clip_ids.to_pylist()).encode()),
        vectors=[receipt.sha256 for receipt in vectors],
    )
    path = f"duplicates/{key}.parquet"
    if store.head(path) is None:
        found = near_duplicates(clip_ids, read_clip_vectors(vectors, clip_ids, store), min_cosine=min_cosine)
        commit_first(store, path, table_bytes(found))
    data = store.get(path)
    files[path] = sha256_hex(data)
    return read_table_bytes(data)
