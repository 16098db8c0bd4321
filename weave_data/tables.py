"""Tables as bytes: one pinned way to write Parquet, so that equal tables are equal files.

Everything but the woven shards goes through `table_bytes`: catalog parts, indices, rejects, vectors,
groups and plans. The bytes depend on the rows, the schema and the pinned pyarrow only: not on how
the rows were chunked or sliced, nor on metadata that pandas left behind.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.errors import VerificationError

__all__ = ["read_table_bytes", "sha256_hex", "table_bytes"]

_ROW_GROUP_ROWS = 65_536  # small enough that a text column of one group never nears 2 GiB of offsets
_HASH_BLOCK_BYTES = 1 << 20


def table_bytes(table: pa.Table) -> bytes:
    """Serialise a table to Parquet deterministically.

    Args:
        table: Any table; schema metadata is kept, sorted by key, without pandas' entry.

    Returns:
        A complete Parquet file: format 2.6, zstd level 3, row groups of 65,536 rows.
    """
    schema = _canonical_schema(table.schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        data_page_size=1 << 20,
        dictionary_pagesize_limit=1 << 20,
        write_batch_size=1024,
        store_schema=True,  # float16 and fixed-size lists come back as they were
        write_page_index=False,
        write_page_checksum=False,
    ) as writer:
        for start in range(0, table.num_rows, _ROW_GROUP_ROWS):
            # chunk borders move page borders: the same rows in other chunks would be other bytes
            rows = table.slice(start, _ROW_GROUP_ROWS).combine_chunks()
            writer.write_table(rows, row_group_size=_ROW_GROUP_ROWS)
    return sink.getvalue().to_pybytes()


def read_table_bytes(data: bytes, *, schema: pa.Schema | None = None) -> pa.Table:
    """Read what `table_bytes` wrote.

    Args:
        data: A complete Parquet file.
        schema: Names, types and nullability to insist on; metadata is not compared.

    Raises:
        VerificationError: The bytes are not Parquet, or their schema is another one.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.schema_arrow
        groups = [file.read_row_group(index) for index in range(file.num_row_groups)]
    except (pa.ArrowInvalid, OSError) as error:
        raise VerificationError(
            f"{len(data)} bytes are not a readable Parquet file ({error}); delete the object and build again"
        ) from error
    if schema is not None and not found.equals(schema, check_metadata=False):
        raise VerificationError(_schema_difference(found, schema))
    return pa.concat_tables(groups) if groups else found.empty_table()


def sha256_hex(data: bytes | Path) -> str:
    """sha256 of bytes or of a file's content, 64 hex digits."""
    if isinstance(data, Path):
        digest = hashlib.sha256()
        with data.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()
    return hashlib.sha256(data).hexdigest()


def _canonical_schema(schema: pa.Schema) -> pa.Schema:
    """The schema a reader gets back: list items called `element`, metadata by key, none of pandas."""
    metadata = {key: value for key, value in sorted((schema.metadata or {}).items()) if key != b"pandas"}
    fields = [field.with_type(_canonical_type(field.type)) for field in schema]
    return pa.schema(fields, metadata=metadata or None)


def _canonical_type(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(_canonical_type(field.type)) for field in data_type])
    if pa.types.is_list(data_type) or pa.types.is_fixed_size_list(data_type):
        item = data_type.value_field
        element = item.with_name("element").with_type(_canonical_type(item.type))
        return pa.list_(element, getattr(data_type, "list_size", -1))
    return data_type


def _schema_difference(found: pa.Schema, expected: pa.Schema) -> str:
    if found.names != expected.names:
        return f"columns are {', '.join(found.names)}; expected {', '.join(expected.names)}"
    have, want = next(pair for pair in zip(found, expected, strict=True) if not pair[0].equals(pair[1]))
    return (
        f"column {have.name} is {_type_name(have)}; expected {_type_name(want)}; "
        "the file was written under another schema, delete it and build again"
    )


def _type_name(field: pa.Field) -> str:
    return f"{field.type}" + ("" if field.nullable else " not null")
