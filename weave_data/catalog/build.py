"""The catalog as committed files: computed once, then read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from weave_data.catalog.key_template import parse_key_template
from weave_data.catalog.listing import check_videos, list_videos
from weave_data.catalog.parts import CutCatalog, cut_catalog
from weave_data.catalog.webvid import read_rows, read_units
from weave_data.config import SourceConfig
from weave_data.errors import CommitError, SourceError, VerificationError
from weave_data.records import CLIP_SCHEMA, REJECT_SCHEMA, Part, StageCount, canonical_json, content_key
from weave_data.storage import SourceRoot, Store, commit_exact, open_source
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes

__all__ = ["Catalog", "build_catalog", "catalog_key", "is_committed", "preview_catalog"]


_VERSION = 2  # of what a source's files are made into; part of every key


@dataclass(frozen=True)
class Catalog:
    """A committed catalog.

    Attributes:
        key: Of the CSVs' bytes and the settings that cut them.
        parts: In catalog order.
        count: Rows of the CSVs in, clips out.
        rejects_sha256: Of the committed rejects.
        listing_sha256: Over keys and sizes of its videos as listed when it was built.
    """

    key: str
    parts: tuple[Part, ...]
    count: StageCount
    rejects_sha256: str
    listing_sha256: str

    @property
    def num_files(self) -> int:
        """Objects it is made of: parts, rejects, `catalog.json`."""
        return len(self.parts) + 2

    def read_part(self, store: Store, part: Part) -> pa.Table:
        """Read one part's clips: `CLIP_SCHEMA`, in catalog order.

        Raises:
            VerificationError: The stored bytes are not those that were committed.
        """
        name = f"{_folder(self.key)}/{part.name}.parquet"
        return _read_table(store, name, part.sha256, CLIP_SCHEMA)

    def read_rejects(self, store: Store) -> pa.Table:
        """Read what the catalog refused: `REJECT_SCHEMA`, by part and clip id."""
        return _read_table(store, f"{_folder(self.key)}/rejects.parquet", self.rejects_sha256, REJECT_SCHEMA)


def is_committed(store: Store, key: str) -> bool:
    """True when the catalog of this key is complete in the output."""
    return store.head(f"{_folder(key)}/catalog.json") is not None


def catalog_key(config: SourceConfig) -> str:
    """Key of a source's catalog: reads the CSVs, lists no videos.

    Raises:
        SourceError: The CSVs can't be read.
        ConfigError: `source.path` is no template.
    """
    parse_key_template(config.path)
    return _key(config, [(unit.name, unit.sha256) for unit in read_units(config.catalog)])


def preview_catalog(config: SourceConfig) -> int:
    """Number of rows in the CSVs, after looking whether the source can be used; writes nothing.

    Raises:
        SourceError: CSVs or videos are not there or not usable.
    """
    template = parse_key_template(config.path)
    check_videos(open_source(config.videos))
    return sum(len(read_rows(unit, template)) for unit in read_units(config.catalog))


def build_catalog(config: SourceConfig, store: Store) -> Catalog:
    """Commit a source's catalog, or read the one that is committed.

    `config.limit` does not change the catalog; whoever reads it stops earlier.

    Raises:
        SourceError: CSVs or videos are not there or not usable; nothing was written.
        CommitError: An earlier build stopped half-way and the videos changed since.
    """
    template = parse_key_template(config.path)
    units, sums = [], []
    for unit in read_units(config.catalog):
        sums.append((unit.name, unit.sha256))
        units.append((unit.name, read_rows(unit, template)))
    key = _key(config, sums)
    committed = _read_catalog(store, key)
    if committed is not None:
        return committed
    if not any(len(rows) for _, rows in units):
        raise SourceError(f"source.catalog: {config.catalog} holds no rows; give a CSV with clips")
    source = open_source(config.videos)
    listing = list_videos(source)
    cut = cut_catalog(units, listing, part_clips=config.part_clips)
    if not len(cut.listed):
        raise _nothing_found(units, listing, source)
    try:
        return _commit(store, key, cut)
    except CommitError as error:
        committed = _read_catalog(store, key)  # another build finished meanwhile, over another listing
        if committed is not None:
            return committed
        raise CommitError(
            f"{store.uri}/{_folder(key)}: an earlier build stopped half-way and the videos changed since "
            f"({error}); delete that folder and run again"
        ) from error


def _key(config: SourceConfig, units: Iterable[tuple[str, str]]) -> str:
    return content_key(
        "catalog",
        version=_VERSION,
        kind=config.kind,
        path=config.path,
        part_clips=config.part_clips,
        units=[[name, sha256] for name, sha256 in units],
    )


def _folder(key: str) -> str:
    return f"catalog/{key}"


def _read_catalog(store: Store, key: str) -> Catalog | None:
    name = f"{_folder(key)}/catalog.json"
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
        )
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"{store.uri}/{name}: not a catalog ({error}); delete it") from error


def _commit(store: Store, key: str, cut: CutCatalog) -> Catalog:
    """Write parts and rejects, then `catalog.json`: its presence means that all is there."""
    parts = []
    for name, clips in cut.parts:
        committed = commit_exact(store, f"{_folder(key)}/{name}.parquet", table_bytes(clips))
        parts.append(Part(name, len(clips), committed.sha256))
    rejects = commit_exact(store, f"{_folder(key)}/rejects.parquet", table_bytes(cut.rejects))
    catalog = Catalog(
        key=key,
        parts=tuple(parts),
        count=cut.count,
        rejects_sha256=rejects.sha256,
        listing_sha256=sha256_hex(table_bytes(cut.listed)),
    )
    commit_exact(store, f"{_folder(key)}/catalog.json", _catalog_json(catalog))
    return catalog


def _catalog_json(catalog: Catalog) -> bytes:
    parts = [
        {"name": part.name, "num_clips": part.num_clips, "sha256": part.sha256} for part in catalog.parts
    ]
    return canonical_json(
        {
            "key": catalog.key,
            "parts": parts,
            "count": catalog.count.to_json(),
            "rejects_sha256": catalog.rejects_sha256,
            "listing_sha256": catalog.listing_sha256,
        }
    )


def _read_table(store: Store, name: str, sha256: str, schema: pa.Schema) -> pa.Table:
    data = store.get(name)
    found = sha256_hex(data)
    if found != sha256:
        raise VerificationError(
            f"{store.uri}/{name}: sha256 {found}, catalog.json says {sha256}; delete the folder, build again"
        )
    return read_table_bytes(data, schema=schema)


def _nothing_found(units: list[tuple[str, pa.Table]], listing: pa.Table, source: SourceRoot) -> SourceError:
    wanted = next(rows["key"][0].as_py() for _, rows in units if len(rows))
    return SourceError(
        f"source.videos: none of the catalog's videos is below {source.uri}: looked for {wanted!r}, it holds "
        f"{listing['key'][0].as_py()!r} and {len(listing) - 1} more; correct source.videos or source.path"
    )
