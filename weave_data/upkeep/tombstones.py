"""`removed/<sha256>.json`: sha256 of the ids of clips that were taken down; written first, kept for ever."""

from __future__ import annotations

import json
from collections.abc import Sequence

from weave_data.records import canonical_json
from weave_data.storage import Store, commit_exact
from weave_data.tables import sha256_hex

__all__ = ["add_tombstone", "removed_ids"]


def add_tombstone(store: Store, clip_ids: Sequence[str]) -> str:
    """Write down that clips are taken down; the key of the object. The same clips give the same object."""
    data = canonical_json({"clip_id_sha256": sorted({sha256_hex(name.encode()) for name in clip_ids})})
    return commit_exact(store, f"removed/{sha256_hex(data)}.json", data).key


def removed_ids(store: Store) -> frozenset[str]:
    """sha256 hex digests of the ids of all clips that were taken down from an output."""
    found: set[str] = set()
    for info in store.list("removed/"):
        found.update(json.loads(store.get(info.key))["clip_id_sha256"])
    return frozenset(found)
