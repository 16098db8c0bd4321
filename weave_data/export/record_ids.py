"""Own ids of the records that a source gave ready made, from the plan: shards have no column for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.shard import Manifest
from weave_data.storage import Store

__all__ = ["RecordIds"]


class RecordIds:
    """Sample ids to record ids, read when first asked.

    A recipe that was copied without its `plans/` has none, and its exports call samples as woven ones.

    Args:
        store: The output.
        manifest: Of the recipe.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self._store = store
        is_given = manifest.configuration.get("recipe", {}).get("strategy") == "given"
        self._plans = [str(path) for path, _ in manifest.inputs.get("plans", ())] if is_given else []
        self._found: dict[str, str] | None = None

    def __call__(self, sample_ids: Sequence[str]) -> list[str | None]:
        """The record id of each sample, None where it has none."""
        if self._found is None:
            self._found = {}
            for path in self._plans:
                self._found.update(self._read(path))
        return [self._found.get(sample_id) for sample_id in sample_ids]

    def _read(self, path: str) -> dict[str, str]:
        if self._store.head(path) is None:
            return {}
        file = pq.ParquetFile(pa.BufferReader(self._store.get(path)))
        if "record_id" not in file.schema_arrow.names:  # the plan of an earlier version
            return {}
        table = file.read(columns=["sample_id", "record_id"])
        known = table.filter(table["record_id"].is_valid())
        return dict(zip(known["sample_id"].to_pylist(), known["record_id"].to_pylist(), strict=True))
