"""Decode receipts on local disk while they come in, then as mapped tables in part order.

    receipts, any order -> Arrow IPC file in order of arrival -> Arrow IPC file in part order, memory-mapped

What stays in memory is a few hundred receipts and 20 bytes a part and table; at the end the key of every
frame tar once, which frames refer to by an int32 code. Pages of the mapped tables are the kernel's to drop.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.decode import DecodeReceipt
from weave_data.records import QUALITY_SCHEMA, REJECT_SCHEMA
from weave_data.shard import ADDRESS_SCHEMA

__all__ = ["ReceiptSpool", "SpooledReceipts", "TableSpool"]

_BATCH_TABLES = 256
_BATCH_ROWS = 16_384
_CHUNK_ROWS = 32_768  # about 20 MB of addresses at 22 frames a clip

_TAR_SCHEMA = pa.schema([pa.field("key", pa.string())])
_OPEN_SCHEMA = pa.schema([pa.field("clip_id", pa.string()), pa.field("reason", pa.string())])


def _list_of(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item, nullable=False))


_TAR_COLUMN = ADDRESS_SCHEMA.get_field_index("frame_tar")
_NAMED_TARS = _list_of(pa.dictionary(pa.int32(), pa.string()))
_CODED_SCHEMA = ADDRESS_SCHEMA.set(_TAR_COLUMN, pa.field("frame_tar", _list_of(pa.int32()), nullable=False))


class TableSpool:
    """Tables of one schema that come in any order and go out in the order of their positions.

    Args:
        folder: Existing folder on local disk; takes twice the tables' bytes while `finish` runs.
        name: Of the files in it.
        schema: Of every table; no dictionaries, which IPC files can't change from batch to batch.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self._arrived = folder / f"{name}-arrived.arrow"
        self._ordered = folder / f"{name}.arrow"
        self._schema = schema
        self._writer = pa.ipc.new_file(str(self._arrived), schema)
        self._pending: list[pa.Table] = []
        self._num_pending = 0
        self._num_batches = 0
        # of every table that came, in order of arrival: where it belongs, its batch, its first row, its rows
        self._positions, self._batches = array("q"), array("i")
        self._starts, self._sizes = array("i"), array("i")

    def add(self, position: int, table: pa.Table) -> None:
        """Take a table; one without rows leaves nothing.

        Args:
            position: Its place among all, not negative; each at most once.
            table: Of the spool's schema.
        """
        if not table.num_rows:
            return
        self._positions.append(position)
        self._batches.append(self._num_batches)
        self._starts.append(self._num_pending)
        self._sizes.append(table.num_rows)
        self._pending.append(table)
        self._num_pending += table.num_rows
        if len(self._pending) >= _BATCH_TABLES or self._num_pending >= _BATCH_ROWS:
            self._flush()

    def finish(self) -> pa.Table:
        """All rows by position, memory-mapped, in chunks of about 32,768 rows; the spool is closed."""
        self._flush()
        self._writer.close()
        with pa.ipc.new_file(str(self._ordered), self._schema) as writer:
            for table in self._blocks():
                writer.write_table(table)
        self._arrived.unlink()
        return pa.ipc.open_file(pa.memory_map(str(self._ordered))).read_all()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending).combine_chunks())
            self._pending, self._num_pending = [], 0
            self._num_batches += 1

    def _blocks(self) -> Iterator[pa.Table]:
        """Tables of consecutive positions, each read through a mapping of its own, which ends with it."""
        order = np.argsort(_numbers(self._positions), kind="stable")
        batches, starts = _numbers(self._batches)[order], _numbers(self._starts)[order]
        sizes = _numbers(self._sizes)[order]
        blocks = (np.cumsum(sizes) - sizes) // _CHUNK_ROWS
        cuts = np.flatnonzero(np.diff(blocks)) + 1
        for rows in np.split(np.arange(len(order)), cuts):
            reader = pa.ipc.open_file(pa.memory_map(str(self._arrived)))
            needed = {number: reader.get_batch(number) for number in np.unique(batches[rows]).tolist()}
            places = zip(batches[rows].tolist(), starts[rows].tolist(), sizes[rows].tolist(), strict=True)
            slices = [needed[number].slice(start, size) for number, start, size in places]
            yield pa.Table.from_batches(slices, self._schema).combine_chunks()


@dataclass(frozen=True)
class SpooledReceipts:
    """Receipts of all parts, in part order.

    Attributes:
        addresses: `shard.ADDRESS_SCHEMA` with `frame_tar` as list of dictionary, memory-mapped.
        quality: QUALITY_SCHEMA, memory-mapped.
        rejects: REJECT_SCHEMA, memory-mapped.
        open_clips: (clip id, reason).
    """

    addresses: pa.Table
    quality: pa.Table
    rejects: pa.Table
    open_clips: tuple[tuple[str, str], ...]


class ReceiptSpool:
    """What decode receipts hold, kept on local disk.

    Args:
        folder: Where to; made when it is not there. What lies there is not read.
        frames_key: Key of the frame store, for the keys of frame tars.
    """

    def __init__(self, folder: Path, frames_key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._frames_key = frames_key
        self._addresses = TableSpool(folder, "addresses", _CODED_SCHEMA)
        self._quality = TableSpool(folder, "quality", QUALITY_SCHEMA)
        self._rejects = TableSpool(folder, "rejects", REJECT_SCHEMA)
        self._open = TableSpool(folder, "open", _OPEN_SCHEMA)
        self._tars = TableSpool(folder, "tars", _TAR_SCHEMA)
        self._num_tars = 0

    def add(self, position: int, receipt: DecodeReceipt) -> None:
        """Take a part's receipt.

        Args:
            position: Of the part among the build's parts.
            receipt: Its receipt, which need not be kept.
        """
        self._addresses.add(position, self._coded(receipt.addresses(self._frames_key)))
        self._quality.add(position, receipt.quality)
        self._rejects.add(position, receipt.rejects)
        if receipt.open_clips:
            columns = zip(*receipt.open_clips, strict=True)
            arrays = [pa.array(column, pa.string()) for column in columns]
            self._open.add(position, pa.Table.from_arrays(arrays, schema=_OPEN_SCHEMA))

    def finish(self) -> SpooledReceipts:
        """Everything in part order; the spool is closed."""
        open_clips = self._open.finish()
        return SpooledReceipts(
            addresses=self._named(self._addresses.finish()),
            quality=self._quality.finish(),
            rejects=self._rejects.finish(),
            open_clips=tuple(zip(*(column.to_pylist() for column in open_clips.columns), strict=True)),
        )

    def _coded(self, addresses: pa.Table) -> pa.Table:
        """Addresses with codes for tars. A tar belongs to one part, so its key comes with one receipt."""
        [lists] = addresses["frame_tar"].chunks
        codes = pc.add(lists.values.indices, pa.scalar(self._num_tars, pa.int32()))
        keys = lists.values.dictionary
        self._tars.add(self._num_tars, pa.Table.from_arrays([keys], schema=_TAR_SCHEMA))
        self._num_tars += len(keys)
        field = _CODED_SCHEMA.field(_TAR_COLUMN)
        column = pa.ListArray.from_arrays(lists.offsets, codes, type=field.type)
        return addresses.set_column(_TAR_COLUMN, field, column).cast(_CODED_SCHEMA)

    def _named(self, coded: pa.Table) -> pa.Table:
        """Addresses with a dictionary of tars over the mapped codes; nothing is copied."""
        dictionary = pa.concat_arrays([pa.array([], pa.string()), *self._tars.finish()["key"].chunks])
        chunks = [
            pa.ListArray.from_arrays(
                lists.offsets,
                # the codes are our own: a check would read every page
                pa.DictionaryArray.from_arrays(lists.values, dictionary, safe=False),
                type=_NAMED_TARS,
            )
            for lists in coded["frame_tar"].chunks
        ]
        field = pa.field("frame_tar", _NAMED_TARS, nullable=False)
        return coded.set_column(_TAR_COLUMN, field, pa.chunked_array(chunks, _NAMED_TARS))


def _numbers(values: array[int]) -> npt.NDArray[np.integer]:
    return np.frombuffer(values, dtype=values.typecode) if len(values) else np.empty(0, np.int64)
