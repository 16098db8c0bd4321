"""Manifests: rows that name a file and its caption, under whatever column names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.folder_captions import TABLE_SUFFIXES
from weave_data.catalog.listing import check_videos, list_videos, nothing_found
from weave_data.catalog.media import ids_of_keys, media_of
from weave_data.catalog.parts import CutCatalog, cut_catalog
from weave_data.catalog.protocol import Unit
from weave_data.catalog.row_files import RowFile, read_row_files
from weave_data.config import ColumnsConfig, SourceConfig
from weave_data.errors import SourceError
from weave_data.records import RejectReason
from weave_data.storage import SourceRoot, open_source

__all__ = ["ManifestSource", "relative_keys"]


class ManifestSource:
    """JSON lines, Parquet or CSV partitions whose rows name videos and images; see `ClipSource`."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._catalog = config.catalog or ""
        self._columns = config.columns or ColumnsConfig()

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `ClipSource.settings`."""
        return {"columns": self._columns.model_dump(mode="json")}

    def check(self) -> None:
        """See `ClipSource.check`."""
        check_videos(open_source(self._config.videos))

    def identities(self) -> Iterator[tuple[str, str]]:
        """See `ClipSource.identities`: names and sums of the files, no videos are listed."""
        for file in read_row_files(self._catalog, TABLE_SUFFIXES):
            yield file.name, file.sha256

    def units(self) -> Iterator[Unit]:
        """See `ClipSource.units`; rows are clip_id, key, caption, page, licence, media, reason, detail."""
        source = open_source(self._config.videos)
        for file in read_row_files(self._catalog, TABLE_SUFFIXES):
            yield Unit(file.name, file.sha256, self._rows(file, source))

    def _rows(self, file: RowFile, source: SourceRoot) -> pa.Table:
        names = {name: column for name, column in self._columns.model_dump().items() if column is not None}
        found = file.column_names()
        missing = sorted({column for column in names.values() if column not in found})
        if missing:
            raise SourceError(
                f"{file.name}: no column {', '.join(missing)}; the {file.form} has {', '.join(found)}. "
                f"Correct source.columns ({', '.join(f'{name}: {column}' for name, column in names.items())})"
            )
        table = file.read(list(dict.fromkeys(names.values())))
        keys = relative_keys(table[self._columns.path], source)
        empty = pa.chunked_array([pa.repeat("", len(table))])
        media = table[self._columns.media] if self._columns.media else media_of(keys)
        is_known = pc.is_in(media, value_set=pa.array(["video", "image"]))
        nothing = pa.scalar(None, pa.string())
        detail = pc.binary_join_element_wise("media is ", media, "; video or image is needed", "")
        return pa.table(
            {
                "clip_id": table[self._columns.id] if self._columns.id else ids_of_keys(keys),
                "key": keys,
                "caption": table[self._columns.caption],
                "page": table[self._columns.page] if self._columns.page else empty,
                "licence": table[self._columns.licence] if self._columns.licence else empty,
                "media": media,
                "reason": pc.if_else(is_known, nothing, RejectReason.BAD_RECORD.value),
                "detail": pc.if_else(is_known, nothing, detail),
            }
        )

    def cut(self, units: Sequence[tuple[str, pa.Table]]) -> CutCatalog:
        """See `ClipSource.cut`; lists the videos."""
        source = open_source(self._config.videos)
        listing = list_videos(source)
        cut = cut_catalog(
            units,
            listing,
            part_clips=self._config.part_clips,
            id_column=self._columns.id or "id",
            caption_column=self._columns.caption,
        )
        if not len(cut.listed):
            raise nothing_found(units, listing, source)
        return cut

    def count_rows(self) -> int:
        """See `ClipSource.count_rows`."""
        return sum(len(unit.rows) for unit in self.units())


def relative_keys(paths: pa.ChunkedArray, source: SourceRoot) -> pa.ChunkedArray:
    """Paths as keys below a root: its own address and `./` in front of them are taken off.

    Raises:
        SourceError: They are web addresses: nothing is downloaded.
    """
    root = re.escape(source.uri.rstrip("/"))
    keys = pc.replace_substring_regex(paths, rf"^(?:{root}/+)?(?:\./)*", "")
    absolute = keys.filter(pc.match_substring_regex(keys, r"^https?://"))
    if len(absolute):
        raise SourceError(
            f"source.columns.path: {len(absolute)} web addresses, as {absolute[0].as_py()!r}; files are read "
            "from source.videos, not downloaded: fetch them with video2dataset or img2dataset and build from "
            "its tars with kind: webdataset"
        )
    return keys
