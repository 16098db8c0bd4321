"""Where every planned frame lies: plan slice + address table -> flat arrays, one entry a frame.

The address table has one row per clip and is what the frame indexes of all parts and layers come
to: about 24 bytes a frame, joined to a shard's plan slice once. Everything here is columnar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import VerificationError

__all__ = ["ADDRESS_SCHEMA", "FramePlaces", "as_array", "flat_list", "locate_frames"]


def _list_of(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item, nullable=False))


ADDRESS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("source_frames", pa.int32(), nullable=False),
        pa.field("source_seconds", pa.float32(), nullable=False),  # last frame minus the first
        pa.field("width", pa.int32(), nullable=False),  # of the stored frames, px
        pa.field("height", pa.int32(), nullable=False),
        pa.field("frame_index", _list_of(pa.int32()), nullable=False),
        pa.field("frame_seconds", _list_of(pa.float32()), nullable=False),
        pa.field("frame_offset", _list_of(pa.int64()), nullable=False),  # of the JPEG's first byte in its tar
        pa.field("frame_bytes", _list_of(pa.int32()), nullable=False),
        pa.field("frame_tar", _list_of(pa.string()), nullable=False),  # key of the tar, relative to OUTPUT
    ]
)
"""One row per clip, unique `clip_id`; the five lists run in parallel, one entry per stored frame,
over all layers. `frame_tar` may also be `list<dictionary<int32, string>>`, which a large build wants."""

Int64Array = npt.NDArray[np.int64]

_INDEX_SPAN = 1 << 31  # frame indexes are int32: clip * span + index is unique


@dataclass(frozen=True)
class FramePlaces:
    """The frames of `num_rows` plan rows, in plan order.

    Attributes:
        row_offsets: int64[num_rows + 1]; frames of row r are `row_offsets[r]:row_offsets[r + 1]`.
        tar_code: int64[num_frames], index into `tars`.
        tars: Keys of the tars, relative to the output.
        offset: int64[num_frames], first byte of the JPEG in its tar.
        size_bytes: int64[num_frames].
        seconds: float32[num_frames], presentation time in its source.
        width: int32[num_rows], px, of the row's first frame (0 where a row has no frames).
        height: int32[num_rows], px, likewise.
        clip_id: string[num_frames].
        frame_index: int32[num_frames].
    """

    row_offsets: Int64Array
    tar_code: Int64Array
    tars: tuple[str, ...]
    offset: Int64Array
    size_bytes: Int64Array
    seconds: npt.NDArray[np.float32]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    clip_id: pa.Array
    frame_index: Int64Array

    def describe(self, frame: int) -> str:
        """Name one frame for a message: clip, index, tar and byte range."""
        start = int(self.offset[frame])
        stop = start + int(self.size_bytes[frame])
        return (
            f"clip {self.clip_id[frame].as_py()}: frame {int(self.frame_index[frame])} "
            f"in {self.tars[self.tar_code[frame]]} [{start}, {stop})"
        )


def locate_frames(plan: pa.Table, addresses: pa.Table) -> FramePlaces:
    """Find the stored bytes of every frame a plan slice asks for.

    Args:
        plan: Rows of `records.PLAN_SCHEMA`.
        addresses: Rows of `ADDRESS_SCHEMA`, at least for the clips of the plan, in any order.

    Raises:
        VerificationError: A planned clip or frame is not stored.
    """
    frame_clip, row_offsets = flat_list(plan, "frame_clip")
    frame_index, _ = flat_list(plan, "frame_index")
    clips, clip_offsets = flat_list(plan, "clips")
    frame_row = np.repeat(np.arange(plan.num_rows), np.diff(row_offsets))
    clip_position = clip_offsets[frame_row] + frame_clip.to_numpy(zero_copy_only=False)
    clip_ids = clips.field("clip_id")
    addresses = _only_wanted(addresses, clip_ids)
    clip_row = _rows_of(clip_ids, addresses)[clip_position]
    frame_clip_id = clip_ids.take(pa.array(clip_position))
    index = frame_index.to_numpy(zero_copy_only=False).astype(np.int64)
    stored = _match(clip_row, index, addresses, frame_clip_id)
    return _places(row_offsets, stored, clip_row, addresses, frame_clip_id, index)


def _places(
    row_offsets: Int64Array,
    stored: Int64Array,
    clip_row: Int64Array,
    addresses: pa.Table,
    clip_id: pa.Array,
    index: Int64Array,
) -> FramePlaces:
    tar = flat_list(addresses, "frame_tar")[0]
    if not pa.types.is_dictionary(tar.type):
        tar = tar.dictionary_encode()
    has_frames = np.diff(row_offsets) > 0
    first = clip_row[row_offsets[:-1][has_frames]]

    def side(name: str) -> npt.NDArray[np.int32]:
        values = np.zeros(len(has_frames), np.int32)
        values[has_frames] = addresses[name].to_numpy()[first]
        return values

    return FramePlaces(
        row_offsets=row_offsets,
        tar_code=tar.indices.to_numpy(zero_copy_only=False).astype(np.int64)[stored],
        tars=tuple(tar.dictionary.to_pylist()),
        offset=_flat_numbers(addresses, "frame_offset")[stored].astype(np.int64),
        size_bytes=_flat_numbers(addresses, "frame_bytes")[stored].astype(np.int64),
        seconds=_flat_numbers(addresses, "frame_seconds")[stored].astype(np.float32),
        width=side("width"),
        height=side("height"),
        clip_id=clip_id,
        frame_index=index,
    )


def _only_wanted(addresses: pa.Table, clip_ids: pa.Array) -> pa.Table:
    wanted = addresses.filter(pc.is_in(addresses["clip_id"], value_set=clip_ids.unique()))
    repeated = wanted.num_rows - pc.count_distinct(wanted["clip_id"]).as_py()
    if repeated:
        raise VerificationError(
            f"the address table names {repeated} clips twice; merge the layers of a clip into one row"
        )
    return wanted


def _rows_of(clip_ids: pa.Array, addresses: pa.Table) -> Int64Array:
    rows = pc.index_in(clip_ids, value_set=as_array(addresses["clip_id"]))
    if rows.null_count:
        missing = clip_ids.filter(rows.is_null()).unique()
        raise VerificationError(
            f"clip {missing[0].as_py()}: no stored frames ({len(missing)} planned clips have none); "
            "the plan and the frame store belong to different builds, run the decode stage again"
        )
    return rows.to_numpy(zero_copy_only=False).astype(np.int64)


def _match(clip_row: Int64Array, index: Int64Array, addresses: pa.Table, clip_id: pa.Array) -> Int64Array:
    """Position of every planned frame among the flattened stored frames."""
    stored_index, offsets = flat_list(addresses, "frame_index")
    stored_row = np.repeat(np.arange(addresses.num_rows), np.diff(offsets))
    keys = stored_row * _INDEX_SPAN + stored_index.to_numpy(zero_copy_only=False)
    order = np.argsort(keys, kind="stable")
    wanted = clip_row * _INDEX_SPAN + index
    place = np.searchsorted(keys[order], wanted)
    found = place < len(keys)
    found[found] = keys[order][place[found]] == wanted[found]
    if not found.all():
        frame = int(np.flatnonzero(~found)[0])
        raise VerificationError(
            f"clip {clip_id[frame].as_py()}: frame {int(index[frame])} is planned but not stored "
            f"({int((~found).sum())} such frames); decode the layer that holds it first"
        )
    return order[place].astype(np.int64)


def as_array(column: pa.ChunkedArray) -> Any:
    """The column as one Arrow array."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [_empty(column)])


def _empty(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([], column.type)


def flat_list(table: pa.Table, name: str) -> tuple[Any, Int64Array]:
    """Flattened values of a list column and int64[rows + 1] offsets into them, from 0."""
    column = as_array(table[name])
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return column.flatten(), offsets


def _flat_numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    values, _ = flat_list(table, name)
    return np.asarray(values.to_numpy(zero_copy_only=False))
