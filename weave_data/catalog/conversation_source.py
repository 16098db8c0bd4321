"""The kind `conversations`: files of records, streamed from wherever they lie."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.conversation_rows import read_records
from weave_data.catalog.conversations import cut_conversations
from weave_data.catalog.listing import LISTING_SCHEMA, check_videos, list_videos
from weave_data.catalog.parts import CutCatalog
from weave_data.catalog.protocol import Unit
from weave_data.config import SourceConfig
from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source

__all__ = ["ConversationsSource"]

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_BLOCK_BYTES = 16 << 20


class ConversationsSource:
    """JSON arrays or JSON lines of records that hold their conversations; see `ClipSource`."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._catalog = config.catalog or ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `ClipSource.settings`."""
        return {
            "image_to_video": self._config.image_to_video,
            "frames_per_video": self._config.frames_per_video,
        }

    def check(self) -> None:
        """See `ClipSource.check`; a source of text alone needs no media."""
        if any(_names_media(unit.rows) for unit in self.units()):
            check_videos(open_source(self._config.videos))

    def identities(self) -> Iterator[tuple[str, str]]:
        """See `ClipSource.identities`: the files are read, their media are not listed."""
        source, names = self._files()
        for name in names:
            file = _StreamedFile(source, name)
            yield name, file.sha256()

    def units(self) -> Iterator[Unit]:
        """See `ClipSource.units`; rows are `RECORD_SCHEMA`."""
        source, names = self._files()
        for name in names:
            file = _StreamedFile(source, name)
            rows = read_records(io.BufferedReader(file, _BLOCK_BYTES), name=name)
            yield Unit(name, file.sha256(), rows)

    def cut(self, units: Sequence[tuple[str, pa.Table]]) -> CutCatalog:
        """See `ClipSource.cut`; lists the media if a record names one."""
        listing = LISTING_SCHEMA.empty_table()
        named = next((keys for _, rows in units if (keys := _names_media(rows))), None)
        source = open_source(self._config.videos)
        if named is not None:
            listing = list_videos(source)
        cut = cut_conversations(
            units,
            listing,
            part_clips=self._config.part_clips,
            image_to_video=self._config.image_to_video,
            frames_per_video=self._config.frames_per_video,
        )
        if named is not None and cut.count.rejected.get("missing") and not len(cut.listed):
            raise SourceError(
                f"source.videos: none of the records' media is below {source.uri}: looked for {named!r}, it "
                f"holds {listing['key'][0].as_py()!r} and {len(listing) - 1} more; correct source.videos"
            )
        return cut

    def count_rows(self) -> int:
        """See `ClipSource.count_rows`."""
        return sum(len(unit.rows) for unit in self.units())

    def _files(self) -> tuple[SourceRoot, list[str]]:
        uri = self._catalog
        if uri.lower().endswith(_SUFFIXES):
            folder, _, name = uri.rpartition("/")
            source = open_source(folder or ("/" if uri.startswith("/") else "."))
            if source.size(name) is None:
                raise SourceError(f"source.catalog: {uri}: no such file; correct the address")
            return source, [name]
        source = open_source(uri)
        try:
            source.check()
        except SourceError as error:
            raise SourceError(f"source.catalog: {uri}: {error}") from error
        names = [info.key for info in source.list() if info.key.lower().endswith(_SUFFIXES)]
        if not names:
            raise SourceError(
                f"source.catalog: {uri} holds no {', '.join(_SUFFIXES)} file; give a file of records, or a "
                "folder of them"
            )
        return source, names


class _StreamedFile(io.RawIOBase):
    """A file of a source read front to back in blocks, hashed on the way."""

    def __init__(self, source: SourceRoot, name: str) -> None:
        self._source = source
        self._name = name
        self._size_bytes = source.size(name) or 0
        self._position = 0
        self._block = memoryview(b"")
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._block:
            self._block = memoryview(self._next())
        piece = self._block[: len(buffer)]
        buffer[: len(piece)] = piece
        self._block = self._block[len(piece) :]
        return len(piece)

    def sha256(self) -> str:
        """Of the whole file: what nobody has read yet is read now."""
        while self._next():
            pass
        return self._digest.hexdigest()

    def _next(self) -> bytes:
        stop = min(self._position + _BLOCK_BYTES, self._size_bytes)
        data = self._source.read_range(self._name, self._position, stop)
        self._position = stop
        self._digest.update(data)
        return data


def _names_media(rows: pa.Table) -> str | None:
    """The first medium that records name."""
    lists = rows["keys"].filter(pc.greater(pc.list_value_length(rows["keys"]), 0))
    return str(lists[0].as_py()[0]) if len(lists) else None
