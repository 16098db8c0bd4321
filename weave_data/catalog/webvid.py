"""WebVid-style tables: `videoid`, `name` (the caption) and the columns a video's key is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from weave_data.catalog.key_template import parse_key_template
from weave_data.catalog.listing import check_videos, list_videos, nothing_found
from weave_data.catalog.parts import CutCatalog, cut_catalog
from weave_data.catalog.protocol import Unit
from weave_data.catalog.row_files import RowFile, read_row_files
from weave_data.config import SourceConfig
from weave_data.errors import SourceError
from weave_data.storage import open_source

__all__ = ["WebvidSource"]

ID_COLUMN = "videoid"
CAPTION_COLUMN = "name"
PAGE_COLUMN = "page_dir"
SUFFIXES = (".csv", ".parquet")


class WebvidSource:
    """CSV or Parquet partitions whose rows name videos; see `ClipSource`."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._catalog = config.catalog or ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `ClipSource.settings`."""
        parse_key_template(self._config.path)
        return {"path": self._config.path}

    def check(self) -> None:
        """See `ClipSource.check`."""
        check_videos(open_source(self._config.videos))

    def identities(self) -> Iterator[tuple[str, str]]:
        """See `ClipSource.identities`: names and sums of the files, no videos are listed."""
        for file in read_row_files(self._catalog, SUFFIXES):
            yield file.name, file.sha256

    def units(self) -> Iterator[Unit]:
        """See `ClipSource.units`; rows are clip_id, key, caption, page: string[rows], no nulls."""
        for file in read_row_files(self._catalog, SUFFIXES):
            yield Unit(file.name, file.sha256, self._rows(file))

    def _rows(self, file: RowFile) -> pa.Table:
        """Rows in file order; columns may stand in any order, as both published forms of WebVid have them."""
        template = parse_key_template(self._config.path)
        needed = list(dict.fromkeys((ID_COLUMN, CAPTION_COLUMN, *template.columns)))
        found = file.column_names()
        missing = [name for name in needed if name not in found]
        if missing:
            raise SourceError(
                f"{file.name}: no column {', '.join(missing)}; the {file.form} has {', '.join(found)}. "
                f"Needed are {ID_COLUMN}, {CAPTION_COLUMN} and what source.path names "
                f"({', '.join(template.columns)})"
            )
        has_page = PAGE_COLUMN in found
        table = file.read([*needed, PAGE_COLUMN] if has_page and PAGE_COLUMN not in needed else needed)
        page = table[PAGE_COLUMN] if has_page else pa.repeat("", len(table))
        return pa.table(
            {
                "clip_id": table[ID_COLUMN],
                "key": template.format(table, unit=file.name),
                "caption": table[CAPTION_COLUMN],
                "page": page,
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
            id_column=ID_COLUMN,
            caption_column=CAPTION_COLUMN,
        )
        if not len(cut.listed):
            raise nothing_found(units, listing, source)
        return cut

    def count_rows(self) -> int:
        """See `ClipSource.count_rows`."""
        return sum(len(unit.rows) for unit in self.units())
