"""From a configured source to its committed catalog: computed once, then read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from weave_data.catalog.committed import Catalog, commit_catalog, folder_of, is_committed, read_catalog
from weave_data.catalog.kinds import open_clip_source
from weave_data.catalog.protocol import ClipSource
from weave_data.catalog.removal import key_without, without_removed
from weave_data.config import SourceConfig
from weave_data.errors import CommitError, SourceError
from weave_data.records import content_key
from weave_data.storage import Store

__all__ = ["Catalog", "build_catalog", "catalog_key", "is_committed", "preview_catalog"]


_VERSION = 4  # of what a source's files are made into; part of every key


def catalog_key(
    config: SourceConfig, *, removed: frozenset[str] = frozenset(), listing_round: int = 0
) -> str:
    """Key of a source's catalog: reads its CSVs or its listing, whichever says which clips there are.

    Args:
        config: The source.
        removed: sha256 hex digests of the ids of clips that were taken down.
        listing_round: How often the source's listing was taken back (`weave-data retry`).

    Raises:
        SourceError: They can't be read.
        ConfigError: A setting of the source is wrong.
    """
    source = open_clip_source(config)
    key = _key(config, source.settings, list(source.identities()), listing_round)
    return key_without(key, removed)


def preview_catalog(config: SourceConfig) -> int:
    """Number of rows of a source, after looking whether it can be used; writes nothing.

    Tars are not read for it: their number of clips is estimated from a few of them.

    Raises:
        SourceError: The source is not there or not usable.
    """
    source = open_clip_source(config)
    _ = source.settings
    source.check()
    return source.count_rows()


def build_catalog(
    config: SourceConfig,
    store: Store,
    *,
    removed: frozenset[str] = frozenset(),
    listing_round: int = 0,
) -> Catalog:
    """Commit a source's catalog, or read the one that is committed.

    `config.limit` does not change the catalog; whoever reads it stops earlier.

    Args:
        config: The source.
        store: The output.
        removed: As for `catalog_key`; these clips are left out and counted.
        listing_round: As for `catalog_key`.

    Raises:
        SourceError: The source is not there or not usable; nothing was written.
        CommitError: An earlier build stopped half-way and the source changed since.
    """
    source = open_clip_source(config)
    identities = list(source.identities())
    key = key_without(_key(config, source.settings, identities, listing_round), removed)
    committed = read_catalog(store, key)
    if committed is not None:
        return committed
    cut = without_removed(source.cut(_read_units(source, config, identities)), removed)
    try:
        return commit_catalog(store, key, cut)
    except CommitError as error:
        committed = read_catalog(store, key)  # another build finished meanwhile, over another listing
        if committed is not None:
            return committed
        raise CommitError(
            f"{store.uri}/{folder_of(key)}: an earlier build stopped half-way and the source changed since "
            f"({error}); delete that folder and run again"
        ) from error


def _read_units(
    source: ClipSource, config: SourceConfig, identities: list[tuple[str, str]]
) -> Sequence[tuple[str, Any]]:
    tables, found = [], []
    for unit in source.units():
        found.append((unit.name, unit.sha256))
        tables.append((unit.name, unit.rows))
    where = config.catalog or config.videos
    if found != identities:
        raise SourceError(f"source: {where} changed while it was read; run again when it is complete")
    if not any(len(rows) for _, rows in tables):
        raise SourceError(f"source.catalog: {where} holds no rows; give a source with clips")
    return tables


def _key(
    config: SourceConfig, settings: Mapping[str, Any], identities: list[tuple[str, str]], listing_round: int
) -> str:
    again = {"listing_round": listing_round} if listing_round else {}
    return content_key(
        "catalog",
        version=_VERSION,
        kind=config.kind,
        part_clips=config.part_clips,
        **settings,
        **again,
        units=[[name, sha256] for name, sha256 in identities],
    )
