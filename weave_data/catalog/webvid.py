"""WebVid-style CSVs: `videoid`, `name` (the caption) and the columns a video's key is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.csv as pa_csv

from weave_data.catalog.key_template import KeyTemplate
from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source, sha256_of

__all__ = ["Unit", "read_rows", "read_units"]

ID_COLUMN = "videoid"
CAPTION_COLUMN = "name"

_BLOCK_BYTES = 16 << 20  # also the longest row that can be read
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Unit:
    """One CSV of the source.

    Attributes:
        name: Relative to the folder of CSVs, so that it does not say where they lie.
        sha256: Of `data`.
        data: The whole file.
    """

    name: str
    sha256: str
    data: bytes = field(repr=False)


def read_units(catalog_uri: str) -> Iterator[Unit]:
    """Read the CSVs of a source, one at a time, by ascending name.

    Args:
        catalog_uri: One `.csv` file, or a folder or prefix that holds some.

    Raises:
        SourceError: Nothing there, or not readable.
    """
    if catalog_uri.lower().endswith(".csv"):
        folder, _, name = catalog_uri.rpartition("/")
        source, names = open_source(folder or ("/" if catalog_uri.startswith("/") else ".")), [name]
        if source.size(name) is None:
            _check(source, catalog_uri)  # says more when the bucket or folder is not there either
            raise SourceError(f"source.catalog: {catalog_uri}: no such file; correct the address")
    else:
        source = open_source(catalog_uri)
        _check(source, catalog_uri)
        names = [info.key for info in source.list() if info.key.lower().endswith(".csv")]
        if not names:
            raise SourceError(
                f"source.catalog: {catalog_uri} holds no .csv file; give a CSV or a folder of partitions"
            )
    for name in names:
        data = source.read(name)
        yield Unit(name, sha256_of(data), data)


def _check(source: SourceRoot, catalog_uri: str) -> None:
    try:
        source.check()
    except SourceError as error:
        raise SourceError(f"source.catalog: {catalog_uri}: {error}") from error


def read_rows(unit: Unit, template: KeyTemplate) -> pa.Table:
    """Read one CSV's rows in file order.

    Columns may stand in any order; quoted values may hold newlines; a UTF-8 byte-order mark is skipped.

    Returns:
        clip_id, key, caption: string[rows], no nulls.

    Raises:
        SourceError: Not a CSV in UTF-8, or without the columns needed; the message lists those found.
    """
    found = _column_names(unit)
    needed = list(dict.fromkeys((ID_COLUMN, CAPTION_COLUMN, *template.columns)))
    missing = [name for name in needed if name not in found]
    if missing:
        raise SourceError(
            f"{unit.name}: no column {', '.join(missing)}; the CSV has {', '.join(found)}. Needed are "
            f"{ID_COLUMN}, {CAPTION_COLUMN} and what source.path names ({', '.join(template.columns)})"
        )
    repeated = sorted({name for name in needed if found.count(name) > 1})
    if repeated:
        raise SourceError(f"{unit.name}: the column {repeated[0]} is there twice; rename one of them")
    table = _parse(unit, needed)
    return pa.table(
        {
            "clip_id": table[ID_COLUMN],
            "key": template.format(table, unit=unit.name),
            "caption": table[CAPTION_COLUMN],
        }
    )


def _column_names(unit: Unit) -> list[str]:
    # the header as a row of data: its names may repeat, and a column's type does not matter yet
    header = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=True)
    first_row = unit.data.partition(b"\n")[0] + b"\n"
    table = _read_csv(unit, first_row, header, pa_csv.ConvertOptions(strings_can_be_null=False))
    return [str(column[0].as_py()) for column in table.columns]


def _parse(unit: Unit, needed: list[str]) -> pa.Table:
    return _read_csv(
        unit,
        unit.data,
        pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
        # everything is text: an id like 0012 keeps its zeros, `NA` is a caption, no value is null
        pa_csv.ConvertOptions(
            include_columns=needed, column_types=dict.fromkeys(needed, pa.string()), strings_can_be_null=False
        ),
    )


def _read_csv(unit: Unit, data: bytes, read: pa_csv.ReadOptions, convert: pa_csv.ConvertOptions) -> pa.Table:
    try:
        return pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=read,
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=convert,
        )
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"{unit.name}: not a CSV in UTF-8 ({reason}); correct the file") from error
