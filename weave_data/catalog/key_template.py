"""A video's key as a template over the CSV's columns."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import ConfigError, SourceError

__all__ = ["DEFAULT_COLUMN", "KeyTemplate", "parse_key_template"]

DEFAULT_COLUMN = "contentUrl"


@dataclass(frozen=True)
class KeyTemplate:
    """Alternating literals and columns: `{page_dir}/{videoid}.mp4`.

    Attributes:
        pieces: `(literal, column)` pairs, the literal first; column None after the last literal.
        is_default: No template was given; the key is `contentUrl` and must be relative.
    """

    pieces: tuple[tuple[str, str | None], ...]
    is_default: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns it needs, in order of appearance."""
        return tuple(dict.fromkeys(column for _, column in self.pieces if column is not None))

    def format(self, table: pa.Table, *, unit: str) -> pa.ChunkedArray:
        """Fill the template for every row.

        Args:
            table: Holds `columns` as strings.
            unit: The CSV's name, for messages.

        Returns:
            string[rows]: keys below the root of the videos.

        Raises:
            SourceError: Without a template, `contentUrl` holds absolute addresses.
        """
        if self.is_default:
            _check_relative(table, unit)
        texts: list[Any] = []
        for literal, column in self.pieces:
            texts += [pa.scalar(literal)] if literal else []
            texts += [table[column]] if column is not None else []
        return pc.binary_join_element_wise(*texts, "")


def parse_key_template(path: str | None) -> KeyTemplate:
    """Read `source.path`; None means the `contentUrl` column.

    Raises:
        ConfigError: It is no template over columns.
    """
    if path is None:
        return KeyTemplate((("", DEFAULT_COLUMN),), is_default=True)
    try:
        parsed = list(string.Formatter().parse(path))
    except ValueError as error:
        raise ConfigError(f"source.path: {path!r} is not a template ({error}); write {{column}}") from error
    pieces = []
    for literal, column, style, conversion in parsed:
        if column is not None and (not column.isidentifier() or style or conversion):
            shown = column + (f"!{conversion}" if conversion else "") + (f":{style}" if style else "")
            raise ConfigError(f"source.path: {{{shown}}} in {path!r} is not a plain {{column}} of the CSV")
        pieces.append((literal, column))
    if not any(column for _, column in pieces):
        raise ConfigError(
            f"source.path: {path!r} names no column; every video needs its own, add {{videoid}}"
        )
    return KeyTemplate(tuple(pieces))


def _check_relative(table: pa.Table, unit: str) -> None:
    urls = table[DEFAULT_COLUMN]
    absolute = urls.filter(pc.match_substring_regex(urls, r"^[A-Za-z][A-Za-z0-9+.-]*://"))
    if len(absolute):
        raise SourceError(
            f"{unit}: {DEFAULT_COLUMN} holds {len(absolute)} absolute addresses, as {absolute[0].as_py()!r}; "
            "videos are read from source.videos, not downloaded: fetch them with video2dataset, then set "
            'source.path, for example "{page_dir}/{videoid}.mp4"'
        )
