"""Records of a CSV, JSON, JSONL or Parquet file, or a folder of such, as text columns.

A file is known by its bytes: `sha256` is of the content, and neither its name nor where it lies
reaches a key.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from weave_data.errors import SourceError
from weave_data.storage import open_source
from weave_data.tables import sha256_hex

__all__ = ["RECORD_SUFFIXES", "read_records", "read_text"]

RECORD_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")

_BLOCK_BYTES = 16 << 20  # also the longest CSV row that can be read


ReadRows = Callable[[bytes, str], list[dict[str, Any]]]
"""Content and name of a file -> its records."""


def read_records(
    uri: str, columns: Sequence[str], *, readers: Mapping[str, ReadRows] | None = None
) -> tuple[pa.Table, str]:
    """Read some columns of every record.

    Args:
        uri: A file, or a folder or prefix: then all its files with a known suffix, in key order.
        columns: Which; values that are not text become it (whole numbers, true).
        readers: Suffixes that are known besides, and what reads their records.

    Returns:
        string columns in file order, and 64 hex digits that stand for the content.

    Raises:
        SourceError: Nothing is there, a file has another form, or a column is missing, null or nested.
    """
    others = readers or {}
    files = _read_files(uri, (*RECORD_SUFFIXES, *others))
    tables = [_parse(data, name, columns, others) for name, data in files]
    sums = [sha256_hex(data) for _, data in files]
    total = sums[0] if len(sums) == 1 else sha256_hex("\n".join(sums).encode())
    return pa.concat_tables(tables), total


def read_text(uri: str) -> str:
    """Read a text file.

    Raises:
        SourceError: It can't be read or is not UTF-8.
    """
    ((name, data),) = _read_files(uri, suffixes=None)
    return _decoded(data, name)


def _read_files(uri: str, suffixes: tuple[str, ...] | None = RECORD_SUFFIXES) -> list[tuple[str, bytes]]:
    folder, _, name = uri.rstrip("/").rpartition("/")
    root = open_source(folder or ("/" if uri.startswith("/") else "."))
    if root.size(name) is not None:
        return [(uri, root.read(name))]
    if suffixes is None:
        raise SourceError(f"{uri}: no such file; correct the path")
    inside = open_source(uri)
    names = [info.key for info in inside.list() if info.key.endswith(suffixes)]
    if not names:
        raise SourceError(f"{uri}: holds no {', '.join(suffixes)} file; correct the path")
    return [(f"{uri.rstrip('/')}/{key}", inside.read(key)) for key in names]


def _parse(data: bytes, name: str, columns: Sequence[str], readers: Mapping[str, ReadRows]) -> pa.Table:
    suffix = name[name.rfind(".") :].lower()
    match suffix:
        case _ if suffix in readers:
            table = _from_rows(readers[suffix](data, name), name, columns)
        case ".csv":
            table = _parse_csv(data, name, columns)
        case ".parquet":
            table = _parse_parquet(data, name, columns)
        case ".json":
            table = _from_rows(_json_rows(_load(_decoded(data, name), name), name, columns), name, columns)
        case ".jsonl":
            lines = _decoded(data, name).split("\n")
            rows = [_load(line, f"{name}:{place}") for place, line in enumerate(lines, 1) if line.strip()]
            table = _from_rows(rows, name, columns)
        case _:
            raise SourceError(f"{name}: of no known kind; name it {', '.join((*RECORD_SUFFIXES, *readers))}")
    _check_columns(table, name, columns)
    return pa.table({column: _as_text(table[column], name, column) for column in columns})


def _parse_csv(data: bytes, name: str, columns: Sequence[str]) -> pa.Table:
    try:
        first_row = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=True)
        header = pa_csv.read_csv(io.BytesIO(data.partition(b"\n")[0] + b"\n"), read_options=first_row)
        names = [str(column[0].as_py()) for column in header.columns]
        present = [column for column in columns if column in names]
        return pa_csv.read_csv(
            io.BytesIO(data),
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            # types are not guessed: an id 007 must stay 007
            convert_options=pa_csv.ConvertOptions(
                include_columns=present or names[:1],
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SourceError(f"{name}: not a readable CSV ({error}); it must be UTF-8 with a header") from error


def _parse_parquet(data: bytes, name: str, columns: Sequence[str]) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        present = [column for column in columns if column in file.schema_arrow.names]
        return file.read(columns=present) if len(present) == len(columns) else file.schema_arrow.empty_table()
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{name}: not a readable Parquet file ({error}); write it again") from error


def _json_rows(value: Any, name: str, columns: Sequence[str]) -> list[Any]:
    """A list of records, a mapping to records (VideoWeave's cleaned captions), or id -> caption."""
    if isinstance(value, dict):
        if all(isinstance(item, str) for item in value.values()) and len(columns) == 2:
            return [dict(zip(columns, pair, strict=True)) for pair in value.items()]
        value = list(value.values())
    if not isinstance(value, list):
        raise SourceError(f"{name}: a {type(value).__name__}; expected a list or a mapping of records")
    return value


def _from_rows(rows: list[Any], name: str, columns: Sequence[str]) -> pa.Table:
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SourceError(
                f"{name}: entry {place} is a {type(row).__name__}; expected a record of columns"
            )
    known = {column for row in rows for column in columns if column in row}
    texts = {column: [_plain(row.get(column), name, column) for row in rows] for column in sorted(known)}
    return pa.table({column: pa.array(values, pa.string()) for column, values in texts.items()})


def _plain(value: Any, name: str, column: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return json.dumps(value)
    raise SourceError(f"{name}: column {column!r} holds {value!r}; expected text or a whole number")


def _check_columns(table: pa.Table, name: str, columns: Sequence[str]) -> None:
    absent = [column for column in columns if column not in table.column_names]
    if absent:
        found = ", ".join(table.column_names) or "none of them"
        raise SourceError(f"{name}: no column {absent[0]!r}; it has {found}; name the right one")


def _as_text(values: pa.ChunkedArray, name: str, column: str) -> pa.ChunkedArray:
    kind = values.type
    if values.null_count:
        place = pc.index(values.is_null(), True).as_py()
        raise SourceError(f"{name}: column {column!r} is null in record {place}; give it a value or drop it")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        return values.cast(pa.string())
    raise SourceError(f"{name}: column {column!r} is {kind}; expected text or whole numbers")


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _load(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SourceError(f"{name}: not valid JSON ({error})") from error
