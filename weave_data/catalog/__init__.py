"""Catalog: which clips there are, cut once into frozen parts.

    protocol      what a kind of source offers: settings, identities, units of rows, cutting
    kinds         `source.kind` -> the class that reads it
    webvid        CSV or Parquet partitions with WebVid's columns
    folder        plain videos; folder_captions: text files beside them, a table, or their names
    webdataset    tars of video2dataset and img2dataset; tars: their index, read by range
    manifest      JSON lines, Parquet or CSV with configurable columns
    conversation_source  records with their own turns, streamed; conversation_records: one record,
                  conversation_rows: a file of them, conversation_media: the files they name,
                  conversations: all of it cut into clips and ready-made samples
    media         what a file is by its suffix, ids made of keys
    row_files     CSV, Parquet and JSON lines as columns of text
    key_template  `{page_dir}/{videoid}.mp4` over those columns -> keys below `source.videos`
    listing       LIST pages -> one table of keys and sizes
    parts         rows -> clips in parts, rejects, a count that balances
    committed     the catalog as files of the output, written and read
    build         all of it, under a key of the units and the settings

A catalog that is committed is used as it is: its videos are not listed again. Everything works on
columns; no Python runs per row.
"""

from weave_data.catalog.build import Catalog, build_catalog, catalog_key, is_committed, preview_catalog

__all__ = ["Catalog", "build_catalog", "catalog_key", "is_committed", "preview_catalog"]
