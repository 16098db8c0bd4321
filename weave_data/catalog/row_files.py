"""Files of rows (CSV, Parquet, JSON lines) as tables of text; columns go by name, in any order."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source, sha256_of

__all__ = ["RowFile", "read_row_files"]

_BLOCK_BYTES = 16 << 20  # also the longest row that can be read
_FORMS = {
    ".csv": "CSV",
    ".parquet": "Parquet file",
    ".jsonl": "JSON lines file",
    ".ndjson": "JSON lines file",
}


@dataclass(frozen=True)
class RowFile:
    """One file of rows.

    Attributes:
        name: Relative to the folder it was found in, so that it does not say where that lies.
        sha256: Of `data`.
        data: The whole file.
    """

    name: str
    sha256: str
    data: bytes = field(repr=False)

    @property
    def form(self) -> str:
        """What it is, by its suffix, for messages."""
        return _FORMS[_suffix(self.name)]

    def column_names(self) -> list[str]:
        """Columns in file order.

        Raises:
            SourceError: The file is not of its form.
        """
        match self.form:
            case "CSV":
                return self._csv_header()
            case "Parquet file":
                return list(self._parquet().schema_arrow.names)
            case _:
                return list(self._json_lines.column_names)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read some columns as text, in file order: an id like 0012 keeps its zeros, null is "".

        Args:
            columns: Which, all of them in `column_names`.

        Returns:
            string[rows] each, no nulls.

        Raises:
            SourceError: Not of its form, not UTF-8, a column is there twice or holds no texts.
        """
        found = self.column_names()
        repeated = sorted({name for name in columns if found.count(name) > 1})
        if repeated:
            raise SourceError(f"{self.name}: the column {repeated[0]} is there twice; rename one of them")
        match self.form:
            case "CSV":
                table = self._read_csv(columns)
            case "Parquet file":
                table = self._read_parquet(columns)
            case _:
                table = self._json_lines.select(columns)
        return pa.table({name: self._as_text(name, table[name]) for name in columns})

    def _as_text(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not (is_text or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
            raise SourceError(
                f"{self.name}: the column {name} holds {column.type}; texts or whole numbers are needed"
            )
        try:
            column.validate(full=True)  # neither JSON nor Parquet readers look at the encoding
        except pa.ArrowInvalid as error:
            raise self._unreadable(f"in UTF-8 in its column {name}", error) from error
        return pc.fill_null(column.cast(pa.string()), "")

    def _csv_header(self) -> list[str]:
        # the header as a row of data: its names may repeat, and a column's type does not matter yet
        header = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=True)
        first_row = self.data.partition(b"\n")[0] + b"\n"
        table = self._parse_csv(first_row, header, pa_csv.ConvertOptions(strings_can_be_null=False))
        return [str(column[0].as_py()) for column in table.columns]

    def _read_csv(self, columns: Sequence[str]) -> pa.Table:
        # everything is text, `NA` is a caption, no value is null
        convert = pa_csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=False,
        )
        return self._parse_csv(self.data, pa_csv.ReadOptions(block_size=_BLOCK_BYTES), convert)

    def _parse_csv(self, data: bytes, read: pa_csv.ReadOptions, convert: pa_csv.ConvertOptions) -> pa.Table:
        try:
            return pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=read,
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=convert,
            )
        except pa.ArrowInvalid as error:
            raise self._unreadable("a CSV in UTF-8", error) from error

    def _parquet(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(pa.BufferReader(self.data))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable("a Parquet file", error) from error

    def _read_parquet(self, columns: Sequence[str]) -> pa.Table:
        file = self._parquet()
        try:
            return file.read(columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable("a Parquet file", error) from error

    @functools.cached_property
    def _json_lines(self) -> pa.Table:
        try:
            return pa_json.read_json(
                pa.BufferReader(self.data),
                read_options=pa_json.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pa_json.ParseOptions(newlines_in_values=False),
            )
        except pa.ArrowInvalid as error:
            raise self._unreadable("JSON lines of one object each, alike in their types", error) from error

    def _unreadable(self, expected: str, error: Exception) -> SourceError:
        reason = " ".join(str(error).split())[:300]
        return SourceError(f"{self.name}: not {expected} ({reason}); correct the file")


def read_row_files(address: str, suffixes: Sequence[str]) -> Iterator[RowFile]:
    """Read the files of rows at an address, one at a time, by ascending name.

    Args:
        address: One file, or a folder or prefix that holds some.
        suffixes: Of the forms that are allowed, as `.csv`.

    Raises:
        SourceError: Nothing there, not readable, or files of several forms.
    """
    source, names = _find(address, suffixes)
    for name in names:
        data = source.read(name)
        yield RowFile(name, sha256_of(data), data)


def _find(address: str, suffixes: Sequence[str]) -> tuple[SourceRoot, list[str]]:
    if _suffix(address) in suffixes:
        folder, _, name = address.rpartition("/")
        source = open_source(folder or ("/" if address.startswith("/") else "."))
        if source.size(name) is None:
            _check(source, address)  # says more when the bucket or folder is not there either
            raise SourceError(f"source.catalog: {address}: no such file; correct the address")
        return source, [name]
    source = open_source(address)
    _check(source, address)
    names = [info.key for info in source.list() if _suffix(info.key) in suffixes]
    if not names:
        known = " or ".join(suffixes)
        raise SourceError(
            f"source.catalog: {address} holds no {known} file; give such a file or a folder of partitions"
        )
    forms = sorted({_FORMS[_suffix(name)] for name in names})
    if len(forms) > 1:
        raise SourceError(
            f"source.catalog: {address} holds files of several forms ({', '.join(forms)}), it is not clear "
            "which of them name the clips; give one file, or a folder of one form"
        )
    return source, names


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _check(source: SourceRoot, address: str) -> None:
    try:
        source.check()
    except SourceError as error:
        raise SourceError(f"source.catalog: {address}: {error}") from error
