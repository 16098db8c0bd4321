"""The catalog as committed files: parts, rejects, ready-made samples, then `catalog.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from weave_data.catalog.parts import CutCatalog
from weave_data.errors import VerificationError
from weave_data.records import CLIP_SCHEMA, REJECT_SCHEMA, SAMPLE_SCHEMA, Part, StageCount, canonical_json
from weave_data.storage import Store, commit_exact
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes

__all__ = ["Catalog", "commit_catalog", "folder_of", "is_committed", "read_catalog"]


@dataclass(frozen=True)
class Catalog:
    """A committed catalog.

    Attributes:
        key: Of the source's units and the settings that cut them.
        parts: In catalog order.
        count: Rows of the source in, clips (or ready-made samples) out.
        rejects_sha256: Of the committed rejects.
        listing_sha256: Over keys and sizes of its clips as listed when it was built.
        samples_sha256: Of the committed samples; None when the source gives clips only.
        num_samples: How many samples the source gives ready made.
        num_unused: Conversations of its records beyond their first, which nothing uses.
    """

    key: str
    parts: tuple[Part, ...]
    count: StageCount
    rejects_sha256: str
    listing_sha256: str
    samples_sha256: str | None = None
    num_samples: int = 0
    num_unused: int = 0

    @property
    def has_samples(self) -> bool:
        """True when the source gives samples ready made (strategy `given`)."""
        return self.samples_sha256 is not None

    @property
    def num_files(self) -> int:
        """Objects it is made of: parts, rejects, samples, `catalog.json`."""
        return len(self.parts) + 2 + self.has_samples

    def read_part(self, store: Store, part: Part) -> pa.Table:
        """Read one part's clips: `CLIP_SCHEMA`, in catalog order.

        Raises:
            VerificationError: The stored bytes are not those that were committed.
        """
        name = f"{folder_of(self.key)}/{part.name}.parquet"
        return _read_table(store, name, part.sha256, CLIP_SCHEMA)

    def read_rejects(self, store: Store) -> pa.Table:
        """Read what the catalog refused: `REJECT_SCHEMA`, by part and clip id."""
        name = f"{folder_of(self.key)}/rejects.parquet"
        return _read_table(store, name, self.rejects_sha256, REJECT_SCHEMA)

    def read_samples(self, store: Store) -> pa.Table:
        """Read the ready-made samples: `SAMPLE_SCHEMA`, in the source's order; empty without any."""
        if self.samples_sha256 is None:
            return SAMPLE_SCHEMA.empty_table()
        name = f"{folder_of(self.key)}/samples.parquet"
        return _read_table(store, name, self.samples_sha256, SAMPLE_SCHEMA)


def folder_of(key: str) -> str:
    """Where a catalog's files lie in an output."""
    return f"catalog/{key}"


def is_committed(store: Store, key: str) -> bool:
    """True when the catalog of this key is complete in the output."""
    return store.head(f"{folder_of(key)}/catalog.json") is not None


def read_catalog(store: Store, key: str) -> Catalog | None:
    """The committed catalog of a key; None when it is not complete.

    Raises:
        VerificationError: `catalog.json` is not one.
    """
    name = f"{folder_of(key)}/catalog.json"
    if store.head(name) is None:
        return None
    try:
        values: dict[str, Any] = json.loads(store.get(name))
        return Catalog(
            key=values["key"],
            parts=tuple(Part(**part) for part in values["parts"]),
            count=StageCount.from_json(values["count"]),
            rejects_sha256=values["rejects_sha256"],
            listing_sha256=values["listing_sha256"],
            samples_sha256=values.get("samples_sha256"),
            num_samples=values.get("num_samples", 0),
            num_unused=values.get("num_unused", 0),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"{store.uri}/{name}: not a catalog ({error}); delete it") from error


def commit_catalog(store: Store, key: str, cut: CutCatalog) -> Catalog:
    """Write parts, rejects and samples, then `catalog.json`: its presence means that all is there.

    Raises:
        CommitError: Other bytes are committed under one of the names.
    """
    folder = folder_of(key)
    parts = []
    for name, clips in cut.parts:
        committed = commit_exact(store, f"{folder}/{name}.parquet", table_bytes(clips))
        parts.append(Part(name, len(clips), committed.sha256))
    rejects = commit_exact(store, f"{folder}/rejects.parquet", table_bytes(cut.rejects))
    samples = None
    if cut.samples is not None:
        data = table_bytes(cut.samples.cast(SAMPLE_SCHEMA))
        samples = commit_exact(store, f"{folder}/samples.parquet", data)
    catalog = Catalog(
        key=key,
        parts=tuple(parts),
        count=cut.count,
        rejects_sha256=rejects.sha256,
        listing_sha256=sha256_hex(table_bytes(cut.listed)),
        samples_sha256=samples.sha256 if samples else None,
        num_samples=len(cut.samples) if cut.samples is not None else 0,
        num_unused=cut.num_unused,
    )
    commit_exact(store, f"{folder}/catalog.json", _catalog_json(catalog))
    return catalog


def _catalog_json(catalog: Catalog) -> bytes:
    parts = [
        {"name": part.name, "num_clips": part.num_clips, "sha256": part.sha256} for part in catalog.parts
    ]
    values: dict[str, Any] = {
        "key": catalog.key,
        "parts": parts,
        "count": catalog.count.to_json(),
        "rejects_sha256": catalog.rejects_sha256,
        "listing_sha256": catalog.listing_sha256,
    }
    if catalog.has_samples:
        values |= {"samples_sha256": catalog.samples_sha256, "num_samples": catalog.num_samples}
    if catalog.num_unused:
        values["num_unused"] = catalog.num_unused
    return canonical_json(values)


def _read_table(store: Store, name: str, sha256: str, schema: pa.Schema) -> pa.Table:
    data = store.get(name)
    found = sha256_hex(data)
    if found != sha256:
        raise VerificationError(
            f"{store.uri}/{name}: sha256 {found}, catalog.json says {sha256}; delete the folder, build again"
        )
    return read_table_bytes(data, schema=schema)
