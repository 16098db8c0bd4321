"""A folder or prefix of videos, captioned by text files beside them, by a table, or by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.folder_captions import (
    captions_of_names,
    captions_of_table,
    captions_of_texts,
    choose_captions,
)
from weave_data.catalog.listing import check_videos, list_videos
from weave_data.catalog.media import ids_of_keys, is_video
from weave_data.catalog.parts import CutCatalog, cut_catalog
from weave_data.catalog.protocol import Unit
from weave_data.config import SourceConfig
from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source
from weave_data.tables import sha256_hex, table_bytes

__all__ = ["FolderSource"]

_UNIT = "folder"


class FolderSource:
    """The videos below `source.videos`, one unit; see `ClipSource`.

    Its identity is what it consists of: names, sizes and captions. So the folder is listed and its
    captions are read at every build.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._config = config

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `ClipSource.settings`: the rows say it all."""
        return {}

    def check(self) -> None:
        """See `ClipSource.check`."""
        check_videos(open_source(self._config.videos))

    def identities(self) -> Iterator[tuple[str, str]]:
        """See `ClipSource.identities`."""
        for unit in self.units():
            yield unit.name, unit.sha256

    def units(self) -> Iterator[Unit]:
        """See `ClipSource.units`; rows are clip_id, key, caption, size_bytes, reason, detail."""
        source = open_source(self._config.videos)
        listing = list_videos(source)
        # hidden files are other tools' (`._clip.mp4` of a Mac); on disk no listing shows them
        listing = listing.filter(pc.invert(pc.match_substring_regex(listing["key"], r"(^|/)\.")))
        videos = listing.filter(is_video(listing["key"]))
        if not len(videos):
            seen = (
                f"{len(listing)} files, the first is {listing['key'][0].as_py()!r}"
                if len(listing)
                else "none"
            )
            raise SourceError(
                f"source.videos: no video below {source.uri} ({seen}); correct the address, or source.kind "
                "if these are tars, tables or images"
            )
        rows = self._captioned(source, listing, videos)
        rows = rows.append_column("clip_id", ids_of_keys(rows["key"]))
        yield Unit(_UNIT, sha256_hex(table_bytes(rows)), rows)

    def _captioned(self, source: SourceRoot, listing: pa.Table, videos: pa.Table) -> pa.Table:
        how, table = choose_captions(self._config, source.uri, listing["key"])
        match how:
            case "txt":
                return captions_of_texts(source, listing, videos)
            case "csv":
                return captions_of_table(table, self._config.columns, videos)
            case _:
                return captions_of_names(videos)

    def cut(self, units: Sequence[tuple[str, pa.Table]]) -> CutCatalog:
        """See `ClipSource.cut`; the unit is the listing."""
        return cut_catalog(units, None, part_clips=self._config.part_clips)

    def count_rows(self) -> int:
        """See `ClipSource.count_rows`."""
        return sum(len(unit.rows) for unit in self.units())
