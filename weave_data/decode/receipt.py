"""What decoding a part reports: where every frame of the request lies, what was rejected, the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from weave_data.decode.layers import StoredClip, frame_tar_key
from weave_data.decode.selection import embedding_indices
from weave_data.records import FRAME_SCHEMA, QUALITY_SCHEMA, StageCount
from weave_data.storage import Store

__all__ = ["INDEX_SCHEMA", "DecodeReceipt", "index_table", "quality_table"]

_NUM_READS = 8  # ranged GETs under way at a time
_Place = tuple[str, list[tuple[int, int, int]]]  # tar key, (frame index, offset, length) of its frames

_LAYER = pa.dictionary(pa.int32(), pa.string())

INDEX_SCHEMA = FRAME_SCHEMA.append(
    pa.field("frame_layer", pa.list_(pa.field("element", _LAYER, nullable=False)), nullable=False)
)
"""FRAME_SCHEMA and, per frame, the layer whose tar holds it."""


@dataclass(frozen=True)
class DecodeReceipt:
    """Result of `decode_part`.

    Attributes:
        part: Name of the part.
        frames_key: Key of the frame store that it lies in.
        index: Table of INDEX_SCHEMA, catalog order, decoded clips only; the frames of this request in
            order of first use, wherever they lie. Empty when the part is open.
        quality: Table of QUALITY_SCHEMA, a row for each of `index`.
        rejects: Table of REJECT_SCHEMA.
        count: Accounting over the part's clips; nothing is counted while the part is open.
        open_clips: (clip id, circumstance reason: detail); not empty: nothing was committed, the same
            call tries again.
        embedding_frames: m of the request.
        reused_layers: Layers that were there and hold frames or rejects of this request.
        files_written: Objects this call committed.
        files_reused: Objects that were there: of reused layers, or of a layer that an earlier run left half.
        embedding_jpegs: Per row of `index` the bytes of the embedding's frames, ascending by frame
            index, when this call decoded them; use `load_embedding_jpegs`.
    """

    part: str
    frames_key: str
    index: pa.Table
    quality: pa.Table
    rejects: pa.Table
    count: StageCount
    open_clips: tuple[tuple[str, str], ...] = ()
    embedding_frames: int | None = None
    reused_layers: int = 0
    files_written: int = 0
    files_reused: int = 0
    embedding_jpegs: list[list[bytes]] | None = field(default=None, repr=False)

    def addresses(self, frames_key: str | None = None) -> pa.Table:
        """The index with `frame_tar` (list of dictionary string: keys of tars) for `frame_layer`."""
        layers = self.index["frame_layer"].combine_chunks()
        if isinstance(layers, pa.ChunkedArray):  # pyarrow gives one of no chunks for an empty column
            layers = pa.array([], INDEX_SCHEMA.field("frame_layer").type)
        values = layers.values
        key = frames_key or self.frames_key
        tars = [frame_tar_key(key, self.part, name) for name in values.dictionary.to_pylist()]
        named = pa.DictionaryArray.from_arrays(values.indices, pa.array(tars, pa.string()))
        column = pa.ListArray.from_arrays(layers.offsets, named, type=layers.type)
        place = self.index.schema.get_field_index("frame_layer")
        return self.index.set_column(
            place, pa.field("frame_tar", layers.type, nullable=False), column
        ).replace_schema_metadata(None)

    def load_embedding_jpegs(self, store: Store) -> list[list[bytes]]:
        """The embedding's JPEGs per row of `index`, read from the tars where this call has none.

        Raises:
            ValueError: The request named no embedding frames.
            StoreError: The store refused or could not be reached.
        """
        if self.embedding_frames is None:
            raise ValueError(f"part {self.part}: decoded without embedding frames; ask for them")
        if self.embedding_jpegs is not None:
            return self.embedding_jpegs
        return self.read_embedding_jpegs(store.get_range)

    def read_embedding_jpegs(self, read: Callable[[str, int, int], bytes]) -> list[list[bytes]]:
        """`load_embedding_jpegs` through `read(tar key, start, stop)`: one read per clip and layer."""
        if self.embedding_frames is None:
            return [[] for _ in range(self.index.num_rows)]
        rows = self.index.to_pylist()
        places = [self._places(row, self.embedding_frames) for row in rows]

        def gather(clip: list[_Place]) -> list[bytes]:
            found: dict[int, bytes] = {}
            for key, frames in clip:
                start = min(offset for _, offset, _ in frames)
                block = read(key, start, max(offset + size for _, offset, size in frames))
                found.update({i: block[offset - start : offset - start + size] for i, offset, size in frames})
            return [found[index] for index in sorted(found)]

        with ThreadPoolExecutor(_NUM_READS) as pool:
            return list(pool.map(gather, places))

    def _places(self, row: Mapping[str, Any], embedding_frames: int) -> list[_Place]:
        """The embedding frames of one clip by the tar that holds them."""
        wanted = set(embedding_indices(row["source_frames"], embedding_frames))
        by_layer: dict[str, list[tuple[int, int, int]]] = {}
        columns = (row["frame_index"], row["frame_offset"], row["frame_bytes"], row["frame_layer"])
        for index, offset, num_bytes, layer in zip(*columns, strict=True):
            if index in wanted:
                by_layer.setdefault(layer, []).append((index, offset, num_bytes))
        return [
            (frame_tar_key(self.frames_key, self.part, layer), found) for layer, found in by_layer.items()
        ]


def index_table(clips: Mapping[str, tuple[StoredClip, list[int]]]) -> pa.Table:
    """Table of INDEX_SCHEMA from clips in catalog order, each with its indices in stored order."""
    rows = [
        {
            "clip_id": clip_id,
            "source_frames": clip.source_frames,
            "source_seconds": clip.source_seconds,
            "width": clip.width,
            "height": clip.height,
            "frame_index": order,
            "frame_seconds": [clip.frames[index].seconds for index in order],
            "frame_offset": [clip.frames[index].offset for index in order],
            "frame_bytes": [clip.frames[index].num_bytes for index in order],
            "frame_layer": [clip.frames[index].layer for index in order],
        }
        for clip_id, (clip, order) in clips.items()
    ]
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def quality_table(clips: Mapping[str, StoredClip]) -> pa.Table:
    """Table of QUALITY_SCHEMA, in the order given."""
    rows = [{"clip_id": clip_id, **(clip.quality or {})} for clip_id, clip in clips.items()]
    return pa.Table.from_pylist(rows, schema=QUALITY_SCHEMA)
