"""Catalog: which clips there are, cut once into frozen parts.

    webvid        CSV partitions ("units") -> clip_id, key, caption columns
    key_template  `{page_dir}/{videoid}.mp4` over those columns -> keys below `source.videos`
    listing       LIST pages -> one table of keys and sizes
    parts         rows -> clips in parts, rejects, a count that balances
    build         commits it all under a key of the CSVs' bytes and the settings

A catalog that is committed is used as it is: its videos are not listed again. Everything works on
columns; no Python runs per row.
"""

from weave_data.catalog.build import Catalog, build_catalog, catalog_key, is_committed, preview_catalog

__all__ = ["Catalog", "build_catalog", "catalog_key", "is_committed", "preview_catalog"]
