"""Clips that were taken down never enter a catalog again.

What is taken down is known by the sha256 of its id. A catalog without them has a key of its own:
`<key>-<12 digits of what is removed>`, so the key of the whole catalog can still be told from it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.parts import CutCatalog
from weave_data.records import StageCount
from weave_data.tables import sha256_hex

__all__ = ["REMOVED", "count_without", "key_without", "removal_identity", "without_removed"]

REMOVED = "removed"
"""Reason under which the accounting counts clips that were taken down."""


def removal_identity(removed: frozenset[str]) -> str:
    """64 hex digits over a set of sha256 hex digests."""
    return sha256_hex("\n".join(sorted(removed)).encode())


def key_without(key: str, removed: frozenset[str]) -> str:
    """Key of a catalog without the removed clips; the key itself when nothing is removed."""
    base = key.partition("-")[0]
    return f"{base}-{removal_identity(removed)[:12]}" if removed else base


def without_removed(cut: CutCatalog, removed: frozenset[str]) -> CutCatalog:
    """Drop the removed clips, and ready-made samples with one of them, before anything is written.

    Args:
        cut: A catalog as its source gives it.
        removed: sha256 hex digests of clip ids.
    """
    if not removed:
        return cut
    parts, dropped = [], 0
    for name, clips in cut.parts:
        mask = _is_removed(clips["clip_id"], removed)
        dropped += int(mask.sum())
        kept = clips.filter(pa.array(~mask))
        if len(kept):
            parts.append((name, kept))
    refused = _is_removed(cut.rejects["clip_id"], removed)
    reasons = Counter(cut.rejects["reason"].filter(pa.array(refused)).to_pylist())
    samples = getattr(cut, "samples", None)
    if samples is not None:
        lists = samples["clip_ids"].combine_chunks()
        held = _is_removed(lists.flatten(), removed)
        rows = pc.list_parent_indices(lists).filter(pa.array(held)).unique()
        gone = np.zeros(len(samples), dtype=bool)
        gone[rows.to_numpy(zero_copy_only=False)] = True
        samples = samples.filter(pa.array(~gone))
    changes: dict[str, Any] = {} if samples is None else {"samples": samples}
    return dataclasses.replace(
        cut,
        parts=tuple(parts),
        rejects=cut.rejects.filter(pa.array(~refused)),
        count=count_without(cut.count, dropped, reasons),
        **changes,
    )


def count_without(count: StageCount, dropped: int, refused: Mapping[str, int]) -> StageCount:
    """The accounting when some clips, and some that were refused anyway, are taken down."""
    total = dropped + sum(refused.values())
    if not total:
        return count
    rejected = {reason: number - refused.get(reason, 0) for reason, number in count.rejected.items()}
    filtered = {**count.filtered, REMOVED: count.filtered.get(REMOVED, 0) + total}
    return dataclasses.replace(
        count,
        num_out=count.num_out - dropped,
        filtered=filtered,
        rejected={reason: number for reason, number in rejected.items() if number},
    )


def _is_removed(clip_ids: Any, removed: frozenset[str]) -> Any:
    """bool[n]: one digest an id, as few as there are distinct ids."""
    known = clip_ids.unique()
    hit = [name for name in known.to_pylist() if sha256_hex(name.encode()) in removed]
    return pc.is_in(clip_ids, value_set=pa.array(hit, pa.string())).to_numpy(zero_copy_only=False)
